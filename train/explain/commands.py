"""The commands of `edge-ct explain`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.shipped_models import complete_bundle
from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, quiet_tensorflow, seed_option

_run = click.argument("run", type=PATH)
_slices = click.argument("slices", type=PATH, nargs=-1, required=True, metavar="SLICE...")
_out = click.option("--out", type=PATH, required=True, help="Folder to write the results to.")
_html = click.option("--html", "as_html", is_flag=True, help="Also write a page with all pictures, gallery.html.")


@click.group(short_help="See what a network looks at.")
def explain() -> None:
    """Show what a network looks at, and check whether its maps mean anything. Research use only."""


@explain.command(short_help="Draw heat maps of a run.")
@_run
@_slices
@_out
@click.option(
    "--method",
    "methods",
    type=click.Choice(["gradcam", "gradcam++", "classmap"]),
    multiple=True,
    help="Kind of map, may be repeated; by default Grad-CAM, Grad-CAM++ and, if the network has one, the class map.",
)
@click.option("--layer", help="Layer that Grad-CAM maps; by default the last convolution.")
@_html
@force_option
@json_option
def gradcam(
    run: Path,
    slices: tuple[Path, ...],
    out: Path,
    methods: tuple[Any, ...],
    layer: str | None,
    as_html: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Map where a run finds evidence for COVID-19, as overlays (maps.png) and arrays (maps.npz).

    The maps explain the log-odds of COVID-19. They work for any network of the zoo, on Keras' TensorFlow backend.

    \b
    Example:
      edge-ct explain gradcam runs/resnet50 slices/ --out maps
      edge-ct explain gradcam runs/vgg16 a.png b.png --layer block4_conv3 --out maps --html
    """
    quiet_tensorflow()
    from .of_run import explain_gradcam

    _print_files(explain_gradcam(run, slices, out, methods, layer, as_html, force, Progress()), as_json, out)


@explain.command(short_help="Draw activation maps of the layers of a run.")
@_run
@_slices
@_out
@click.option("--layer", "layers", multiple=True, help="Name of a layer to show, may be repeated.")
@click.option(
    "--every",
    type=click.IntRange(0),
    default=0,
    help="Show every k-th convolution; by default about eight over the whole depth.",
)
@click.option(
    "--filters",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Number of filters shown per layer, highest variance first.",
)
@_html
@force_option
@json_option
def activations(
    run: Path,
    slices: tuple[Path, ...],
    out: Path,
    layers: tuple[str, ...],
    every: int,
    filters: int,
    as_html: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Draw activation maps of layers, and a picture along the depth (Garg et al. 2020, figures 6 and 7).

    \b
    Example:
      edge-ct explain activations runs/efficientnetb0 positive.png negative.png --out activations
    """
    quiet_tensorflow()
    from .of_run import explain_activations

    _print_files(
        explain_activations(run, slices, out, layers, every, filters, as_html, force, Progress()), as_json, out
    )


@explain.command(short_help="Compare the attended region, base against Modified network.")
@click.argument("base", type=PATH)
@click.argument("modified", type=PATH)
@_out
@click.option("--data", type=PATH, help="Folder or CSV of labelled slices; by default the test split of the base run.")
@click.option(
    "--limit", type=click.IntRange(2), default=200, show_default=True, help="Maximum number of slices per class."
)
@_html
@force_option
@json_option
def attended(
    base: Path, modified: Path, out: Path, data: Path | None, limit: int, as_html: bool, force: bool, as_json: bool
) -> None:
    """Measure the mean intensity of the attended region of two networks (Garg et al. 2020, section 2.5.1).

    The mask comes from the base network's map: pixels more than one standard deviation above its mean. Both networks'
    maps are averaged over this mask. The command writes a table with paired tests and the maps of both networks
    (figures 4 and 5).

    \b
    Example:
      edge-ct explain attended runs/resnet50 runs/modified-resnet50 --out attended
    """
    quiet_tensorflow()
    from .of_run import explain_attended

    _print_files(explain_attended(base, modified, out, data, limit, as_html, force, Progress()), as_json, out)


@explain.command(short_help="Draw several runs on the same slices, as in the paper's figures.")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@_out
@click.option("--data", type=PATH, help="Folder or CSV of labelled slices; by default phantoms are drawn.")
@click.option(
    "--slices",
    "count",
    type=click.IntRange(1, 8),
    default=4,
    show_default=True,
    help="Number of slices per class in figures 4 and 5.",
)
@click.option(
    "--cells",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Minimum number of cells per side: the deepest layer with that many is mapped.",
)
@click.option(
    "--limit",
    type=click.IntRange(2),
    default=40,
    show_default=True,
    help="Maximum number of slices per class in the tables.",
)
@_html
@force_option
@json_option
def figures(
    runs: tuple[Path, ...],
    out: Path,
    data: Path | None,
    count: int,
    cells: int,
    limit: int,
    as_html: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Draw figures 4 to 7 of Garg et al. 2020 for several runs, and tabulate their attended regions.

    Figures 4 and 5 show Grad-CAM of positive and of negative slices, figure 6 activation maps along the depth, figure 7
    those of a positive slice beside a negative one. Networks are paired with their Modified forms by name. Without
    --data, phantoms are used: their lesions are outlined, and networks.csv counts how often a map is strongest at a
    lesion.

    \b
    Example:
      edge-ct explain figures study/*/round-01/fold-1 --out figures
      edge-ct explain figures runs/resnet50 runs/modified-resnet50 --data slices/ --out figures
    """
    quiet_tensorflow()
    from .of_run import explain_figures

    written = explain_figures(runs, out, data, count, cells, limit, as_html, force, Progress())
    _print_files(written, as_json, out)


@explain.command(short_help="Draw maps of a bundle, without gradients.")
@click.argument("bundle", type=PATH, shell_complete=complete_bundle)
@_slices
@_out
@click.option(
    "--method",
    "methods",
    type=click.Choice(["classmap", "occlusion", "rise"]),
    multiple=True,
    help="Kind of map, may be repeated; by default all that the bundle allows.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Time limit per slice and method, in seconds.",
)
@click.option("--run", type=PATH, help="Run that the bundle was made of: measure the agreement with its Grad-CAM.")
@seed_option
@_html
@force_option
@json_option
def bundle(
    bundle: Path,
    slices: tuple[Path, ...],
    out: Path,
    methods: tuple[str, ...],
    seconds: float,
    run: Path | None,
    seed: int,
    as_html: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Compute class map, occlusion and RISE of a bundle with the engine that the device runs.

    \b
    Example:
      edge-ct explain bundle model.tflite slices/ --run runs/mobilenetv2 --out maps
    """
    quiet_tensorflow()
    from .of_bundle import explain_bundle

    written = explain_bundle(bundle, slices, out, methods, seconds, run, seed, as_html, force, Progress())
    _print_files(written, as_json, out)


@explain.command(short_help="Check whether the maps mean anything.")
@click.argument("target", type=PATH, metavar="RUN_OR_BUNDLE", shell_complete=complete_bundle)
@click.option("--data", type=PATH, help="Folder or CSV of labelled slices; by default only phantoms are used.")
@click.option("--run", type=PATH, help="Run that the bundle was made of: measure the agreement with its Grad-CAM.")
@click.option(
    "--phantoms",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Number of phantoms for the pointing game.",
)
@click.option(
    "--limit", type=click.IntRange(2), default=40, show_default=True, help="Maximum number of slices per class."
)
@seed_option
@json_option
def check(
    target: Path, data: Path | None, run: Path | None, phantoms: int, limit: int, seed: int, as_json: bool
) -> None:
    """Check maps by deletion and insertion, scrambled weights, energy in the lungs and the pointing game on phantoms.

    \b
    Example:
      edge-ct explain check runs/mobilenetv2 --data slices/
      edge-ct explain check model.tflite --run runs/mobilenetv2 --phantoms 200 --json
    """
    quiet_tensorflow()
    from .of_bundle import check_maps

    _print_report(check_maps(target, data, run, phantoms, limit, seed, Progress()), as_json)


@explain.command(short_help="Find the training cases most similar to a slice.")
@_run
@click.argument("slices", type=PATH, nargs=-1, metavar="[SLICE]...")
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Number of training groups shown per slice.",
)
@click.option("--data", type=PATH, help="Where the slices of the run are, if they have moved.")
@click.option("--score", "scored", is_flag=True, help="Score a classifier of prototypes alone on the run's test split.")
@json_option
def nearest(run: Path, slices: tuple[Path, ...], count: int, data: Path | None, scored: bool, as_json: bool) -> None:
    """Find the training groups closest to a slice by pooled features: names and similarities, never pictures.

    \b
    Example:
      edge-ct explain nearest runs/mobilenetv2 slice.png --data slices/
      edge-ct explain nearest runs/mobilenetv2 --score
    """
    if not slices and not scored:
        raise click.UsageError("name slices to compare, or add --score")
    quiet_tensorflow()
    from .of_run import explain_nearest

    _print_report(explain_nearest(run, slices, count, data, scored, Progress()), as_json)


def _print_report(report: Any, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    for line in report.lines():
        click.echo(line)


def _print_files(written: Any, as_json: bool, out: Path) -> None:
    _print_report(written, as_json)
    if not as_json:
        click.echo(f"{out}: {', '.join(written.files)}")
