"""The figure of a conversion. matplotlib is imported only when one is drawn."""

from __future__ import annotations

from pathlib import Path

from edge_ct.system.files import replace_atomically

from .quantise.layer_errors import LayerError


def draw_layer_errors(errors: tuple[LayerError, ...], title: str, path: Path) -> None:
    """Draw the signal-to-noise ratio of the layers in order of execution, and the noise that each adds.

    Args:
        errors: Noise of each layer.
        title: Title of the figure.
        path: The PNG or SVG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.14 * len(errors)), 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    positions = range(len(errors))
    above.plot(positions, [error.snr_db for error in errors], color="black", marker=".", linewidth=0.8)
    above.set_ylabel("signal-to-noise ratio, dB")
    above.set_title(title)
    below.bar(positions, [error.added_noise for error in errors], color="0.4")
    below.set_ylabel("noise added, relative to the signal")
    below.set_xticks(list(positions), [error.name for error in errors], rotation=90, fontsize=6)
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150)
