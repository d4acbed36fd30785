"""`edge-ct explain`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_ct.system.progress import Progress, print_json

from ..command_options import PATH, force_option, json_option, quiet_tensorflow, seed_option

_run = click.argument("run", type=PATH)
_slices = click.argument("slices", type=PATH, nargs=-1, required=True, metavar="SLICE...")
_out = click.option("--out", type=PATH, required=True, help="Folder to write.")
_html = click.option("--html", "as_html", is_flag=True, help="A page of the pictures too: gallery.html.")


@click.group(short_help="See what a network looks at.")
def explain() -> None:
    """See what a network looks at, and whether its maps mean anything. Research use only."""


@explain.command(short_help="Heat maps of a run.")
@_run
@_slices
@_out
@click.option(
    "--method",
    "methods",
    type=click.Choice(["gradcam", "gradcam++", "classmap"]),
    multiple=True,
    help="One or more; by default Grad-CAM, Grad-CAM++ and, where the head has one, the class map.",
)
@click.option("--layer", help="Of Grad-CAM; the last convolution by default.")
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
    """Where a run found evidence for COVID-19: overlays (maps.png) and raw arrays (maps.npz), of any network.

    What is explained is the log-odds of COVID-19. Runs on Keras' TensorFlow backend.

    \b
    Example:
      edge-ct explain gradcam runs/resnet50 slices/ --out maps
      edge-ct explain gradcam runs/vgg16 a.png b.png --layer block4_conv3 --out maps --html
    """
    quiet_tensorflow()
    from . import of_run

    found = of_run.gradcam(run, slices, out, methods, layer, as_html, force, Progress())
    _print(found, as_json, out)


@explain.command(short_help="What the layers of a run respond to.")
@_run
@_slices
@_out
@click.option("--layer", "layers", multiple=True, help="A layer to show; more than once for several.")
@click.option("--every", type=click.IntRange(0), default=0, help="Every k-th convolution; about eight by default.")
@click.option("--filters", type=click.IntRange(1, 64), default=8, show_default=True, help="A layer, by variance.")
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
    """Intermediate activation maps: one picture a layer, and a strip along the depth (Garg et al. 2020, figures 6, 7).

    \b
    Example:
      edge-ct explain activations runs/efficientnetb0 positive.png negative.png --out activations
    """
    quiet_tensorflow()
    from . import of_run

    _print(of_run.activations(run, slices, out, layers, every, filters, as_html, force), as_json, out)


@explain.command(short_help="Mean intensity of the attended region, base against Modified.")
@click.argument("base", type=PATH)
@click.argument("modified", type=PATH)
@_out
@click.option("--data", type=PATH, help="Folder or CSV of slices; the base run's test part by default.")
@click.option("--limit", type=click.IntRange(2), default=200, show_default=True, help="Slices a class, at most.")
@_html
@force_option
@json_option
def attended(
    base: Path, modified: Path, out: Path, data: Path | None, limit: int, as_html: bool, force: bool, as_json: bool
) -> None:
    """Garg et al. 2020, section 2.5.1: a table with paired tests, and the maps of both networks (figures 4 and 5).

    The mask is of the base network's map, pixels more than one standard deviation above its mean; both networks' maps
    are averaged over it.

    \b
    Example:
      edge-ct explain attended runs/resnet50 runs/modified-resnet50 --out attended
    """
    quiet_tensorflow()
    from . import of_run

    _print(of_run.attended_region(base, modified, out, data, limit, as_html, force, Progress()), as_json, out)


@explain.command(short_help="Several runs on the same slices, as the paper's figures.")
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@_out
@click.option("--data", type=PATH, help="Folder or CSV of labelled slices; phantoms by default.")
@click.option("--slices", "count", type=click.IntRange(1, 8), default=4, show_default=True, help="A class in a figure.")
@click.option(
    "--cells",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Map the deepest layer with at least so many cells a side: small inputs leave the last one few.",
)
@click.option("--limit", type=click.IntRange(2), default=40, show_default=True, help="Slices a class, in the tables.")
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
    """Garg et al. 2020, figures 4 to 7, of several runs, and a table of their attended regions.

    Grad-CAM of positive slices, of negative ones; activation maps along the depth; a positive slice beside a negative
    one. Networks are paired with their Modified forms by name. Phantoms, which are drawn where no data is named, have
    their lesions outlined, and networks.csv says how often a map is strongest at one.

    \b
    Example:
      edge-ct explain figures study/*/round-01/fold-1 --out figures
      edge-ct explain figures runs/resnet50 runs/modified-resnet50 --data slices/ --out figures
    """
    quiet_tensorflow()
    from . import of_run

    found = of_run.overviews(runs, out, data, count, cells, limit, as_html, force, Progress())
    _print(found, as_json, out)


@explain.command(short_help="Maps of a bundle, without gradients.")
@click.argument("bundle", type=PATH)
@_slices
@_out
@click.option(
    "--method",
    "methods",
    type=click.Choice(["classmap", "occlusion", "rise"]),
    multiple=True,
    help="One or more; by default all that the graph allows.",
)
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="A slice and method.")
@click.option("--run", type=PATH, help="The run it was made of: how well its Grad-CAM agrees.")
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
    """Class map, occlusion and RISE of a bundle, by the engine that the device runs.

    \b
    Example:
      edge-ct explain bundle model.tflite slices/ --run runs/mobilenetv2 --out maps
    """
    quiet_tensorflow()
    from . import of_run

    _print(of_run.bundle(bundle, slices, out, methods, seconds, run, seed, as_html, force, Progress()), as_json, out)


@explain.command(short_help="Whether the maps mean anything.")
@click.argument("target", type=PATH, metavar="RUN_OR_BUNDLE")
@click.option("--data", type=PATH, help="Slices to check on; phantoms alone by default.")
@click.option("--run", type=PATH, help="The run that a bundle was made of: how well its Grad-CAM agrees.")
@click.option("--phantoms", type=click.IntRange(1), default=50, show_default=True, help="Phantoms to check on.")
@click.option("--limit", type=click.IntRange(2), default=40, show_default=True, help="Slices a class, at most.")
@seed_option
@json_option
def check(
    target: Path, data: Path | None, run: Path | None, phantoms: int, limit: int, seed: int, as_json: bool
) -> None:
    """Deletion and insertion, scrambled weights, energy inside the lungs, and the pointing game on phantoms.

    \b
    Example:
      edge-ct explain check runs/mobilenetv2 --data slices/
      edge-ct explain check model.tflite --run runs/mobilenetv2 --phantoms 200 --json
    """
    quiet_tensorflow()
    from . import of_run

    found = of_run.check(target, data, run, phantoms, limit, seed, Progress())
    if as_json:
        print_json(found)
        return
    for line in found.lines():
        click.echo(line)


@explain.command(short_help="The training cases that are most like a slice.")
@_run
@click.argument("slices", type=PATH, nargs=-1, metavar="[SLICE]...")
@click.option("--count", type=click.IntRange(1, 100), default=5, show_default=True, help="Groups a slice.")
@click.option("--data", type=PATH, help="Where the run's slices are, if they have moved.")
@click.option("--score", "scored", is_flag=True, help="Score the prototypes alone on the run's test part.")
@json_option
def nearest(run: Path, slices: tuple[Path, ...], count: int, data: Path | None, scored: bool, as_json: bool) -> None:
    """The closest training groups in the space of pooled features: names and similarities, never pictures.

    \b
    Example:
      edge-ct explain nearest runs/mobilenetv2 slice.png --data slices/
      edge-ct explain nearest runs/mobilenetv2 --score
    """
    if not slices and not scored:
        raise click.UsageError("name slices to compare, or ask for --score")
    quiet_tensorflow()
    from . import of_run

    found = of_run.nearest_cases(run, slices, count, data, scored, Progress())
    if as_json:
        print_json(found)
        return
    for line in found.lines():
        click.echo(line)


def _print(found: Any, as_json: bool, out: Path) -> None:
    if as_json:
        print_json(found)
        return
    for line in found.lines():
        click.echo(line)
    click.echo(f"{out}: {', '.join(found.files)}")
