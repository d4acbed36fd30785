"""`edge-ct benchmark`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edge_ct.system.progress import Progress, print_json

from .report.commands import report

PATH = click.Path(path_type=Path)
_DATA_HELP = "Slices to measure on; 512 px phantoms by default."
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


class Numbers(click.ParamType):
    """`1,2,4` or `1-4`: positive numbers, as a tuple."""

    name = "integers"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """Raises click's usage error."""
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        for word in str(value).split(","):
            first, _, last = word.partition("-")
            if not (first.isdigit() and (last or first).isdigit() and 1 <= int(first) <= int(last or first) <= 64):
                self.fail(f"{value!r} is not like 1 or 1,2,4 or 1-4, of numbers from 1 to 64", parameter, context)
            found += range(int(first), int(last or first) + 1)
        return tuple(dict.fromkeys(found))


class _MeasureByDefault(click.Group):
    """`benchmark BUNDLE` is `benchmark run BUNDLE`: a first word that is no command's name is something to measure."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if arguments and arguments[0] not in (*self.commands, *context.help_option_names):
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)


@click.group(cls=_MeasureByDefault, short_help="Measure bundles and runs; compare; report.")
def benchmark() -> None:
    """Measure a bundle or run on this machine, compare two measurements, set accuracy beside latency.

    \b
    Example:
      edge-ct benchmark model.tflite --threads 1,2
      edge-ct benchmark compare before.json after.json --tolerance 5
    `edge-ct benchmark BUNDLE` is short for `edge-ct benchmark run BUNDLE`; its options: edge-ct benchmark run --help
    """


@benchmark.command(short_help="Measure a bundle's or a run's latency and memory.")
@click.argument("target", type=PATH, metavar="BUNDLE_OR_RUN")
@click.option("--data", type=PATH, help=_DATA_HELP)
@click.option("--threads", type=Numbers(), default="1", show_default=True, help="1, or 1,2, or 1-4.")
@click.option("--workers", type=Numbers(), help="Also judge 2,000 slices with as many workers: 1, or 1,2, or 1-4.")
@click.option("--profile", is_flag=True, help="Also time each operator of a bundle's graph.")
@click.option(
    "--loadgen", type=PATH, metavar="DIR", help="Also through MLPerf's LoadGen, whose logs go to this folder."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where a run is computed; a missing GPU asked for by name is an error. A bundle is on the processor.",
)
@click.option("--host", metavar="USER@HOST", help="Measure a bundle on that machine, through ssh.")
@click.option("--ssh", default="ssh", show_default=True, help="How to reach the host: 'ssh -p 2222'.")
@click.option("--python", default="python3", show_default=True, help="The host's Python with the base dependencies.")
@click.option("--quick", is_flag=True, help="200 queries instead of at least 1,024 and 60 s; marked so.")
@json_option
def run(
    target: Path,
    data: Path | None,
    threads: tuple[int, ...],
    workers: tuple[int, ...] | None,
    profile: bool,
    loadgen: Path | None,
    device: Any,
    host: str | None,
    ssh: str,
    python: str,
    quick: bool,
    as_json: bool,
) -> None:
    """Measure a bundle on this machine: model only, end to end, cold start, memory.

    A run or an ensemble too, in Keras: what its bundle is to be compared with.

    \b
    Example:
      edge-ct benchmark model.tflite --threads 1,2 --workers 1,2
      edge-ct benchmark runs/ensemble --quick --device cpu
      edge-ct benchmark model.tflite --host pi@raspberrypi.local --threads 1-4
    """
    if host:
        if target.is_dir() or data or loadgen or device != "auto":
            raise click.UsageError("--host takes a bundle, and none of --data, --loadgen, --device: slices stay here")
        from .measure import kit

        words = ["--threads", ",".join(map(str, threads))]
        words += ["--workers", ",".join(map(str, workers))] if workers else []
        words += ["--profile"] * profile + ["--quick"] * quick
        found = kit.measure_on(host, target, words, python, ssh)
    elif target.is_dir():
        if workers or profile or loadgen or len(threads) > 1:
            raise click.UsageError(
                "--workers, --profile, --loadgen and several --threads are of bundles; this is a run"
            )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from .measure import keras_run

        found = keras_run.benchmark(target, data, threads[0], quick, Progress(), device)
    else:
        if device == "gpu":
            raise click.UsageError("--device gpu is of runs; a bundle is measured on the processor")
        from .measure import bundle as latency

        found = latency.benchmark(target, data, threads, workers or (), quick, profile, loadgen, Progress())
    if as_json:
        print_json(found)
        return
    from .measure.summary import lines

    for line in lines(found):
        click.echo(line)


@benchmark.command(short_help="What changed between two measurements; fails on a regression.")
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1000),
    default=5.0,
    show_default=True,
    help="How much worse, in per cent, is no regression.",
)
@json_option
def compare(before: Path, after: Path, tolerance: float, as_json: bool) -> None:
    """Compare two files of `benchmark --json`, or two report.json; exit code 5 on a regression past the tolerance.

    A change smaller than the noise within the measurements is none. Measure both on one quiet machine.

    \b
    Example:
      edge-ct benchmark compare before.json after.json --tolerance 5
    """
    from .measure import compare as comparing
    from .measure.summary import comparison_lines

    found = comparing.compare(comparing.read(before), comparing.read(after), tolerance)
    if as_json:
        print_json(found)
    else:
        for line in comparison_lines(found):
            click.echo(line)
    comparing.enforce(found)


benchmark.add_command(report)


@benchmark.command("kit", short_help="One archive that measures a bundle on a device without network.")
@click.argument("bundle", type=PATH)
@click.option("--out", type=PATH, required=True, help="The .tar.gz to write.")
@click.option(
    "--platform",
    metavar="TAG",
    help="Also the dependencies' wheels, for `here` or a tag of pip's: manylinux_2_28_aarch64 is a 64-bit Pi.",
)
@click.option("--python-version", default="3.11", show_default=True, help="The device's Python, for --platform TAG.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def make_kit(bundle: Path, out: Path, platform: str | None, python_version: str, force: bool) -> None:
    """Pack a bundle, edge-ct and a script; on the device: tar xzf kit.tar.gz && sh edge-ct-benchmark-kit/run.sh

    Without --platform the device's Python must have the base dependencies; with it, nothing but Python.

    \b
    Example:
      edge-ct benchmark kit model.tflite --platform manylinux_2_28_aarch64 --out kit.tar.gz
    """
    from edge_ct.system.files import refuse_existing

    from .measure import kit

    refuse_existing(out, force)
    click.echo(f"{out}: {kit.write(bundle, out, platform, python_version):,} bytes")
