"""Plots of a conversion. matplotlib is imported where one is drawn."""

from __future__ import annotations

from pathlib import Path

from edge_ct.system.files import replace_atomically

from .quantise.layer_errors import LayerError


def draw_layers(errors: tuple[LayerError, ...], title: str, path: Path) -> None:
    """Signal-to-noise ratio over the layers in order of execution, and the noise each adds; PNG or SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.14 * len(errors)), 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    places = range(len(errors))
    above.plot(places, [error.snr_db for error in errors], color="black", marker=".", linewidth=0.8)
    above.set_ylabel("signal to noise, dB")
    above.set_title(title)
    below.bar(places, [error.own for error in errors], color="0.4")
    below.set_ylabel("noise added, of the signal")
    below.set_xticks(list(places), [error.name for error in errors], rotation=90, fontsize=6)
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150)
