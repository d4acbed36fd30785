"""`edge-ct benchmark`: parse the options, call the library, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_ct.engines.command_option import engine_option
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.shipped_models import complete_bundle
from edge_ct.system.progress import Progress, print_json

from .report.commands import report

if TYPE_CHECKING:
    from .measure.bundle import Benchmark

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """`1,2,4` or `1-4`: positive numbers, as a tuple."""

    name = "integers"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """Parse the numbers; anything else is click's usage error."""
        if isinstance(value, tuple):
            return value
        numbers: list[int] = []
        for word in str(value).split(","):
            first, _, last = word.partition("-")
            if not (first.isdigit() and (last or first).isdigit() and 1 <= int(first) <= int(last or first) <= 64):
                self.fail(f"{value!r}: write 1, or 1,2,4, or 1-4, with numbers from 1 to 64", parameter, context)
            numbers += range(int(first), int(last or first) + 1)
        return tuple(dict.fromkeys(numbers))


class _MeasureByDefault(click.Group):
    """Takes `benchmark BUNDLE` as `benchmark run BUNDLE`, if BUNDLE is not the name of a command."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if arguments and arguments[0] not in (*self.commands, *context.help_option_names):
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)


@click.group(cls=_MeasureByDefault, short_help="Measure bundles and runs, compare measurements, write reports.")
def benchmark() -> None:
    """Measure a bundle or run on this machine, compare two measurements, or report accuracy beside latency.

    \b
    Example:
      edge-ct benchmark model.tflite --threads 1,2
      edge-ct benchmark compare before.json after.json --tolerance 5
    `edge-ct benchmark BUNDLE` is short for `edge-ct benchmark run BUNDLE`; its options: edge-ct benchmark run --help
    """


@benchmark.command(short_help="Measure the latency and memory of a bundle or run.")
@click.argument("target", type=PATH, metavar="BUNDLE_OR_RUN", shell_complete=complete_bundle)
@click.option("--data", type=PATH, help="Folder or CSV of slices to measure on; 512 px phantoms by default.")
@click.option(
    "--threads",
    type=Numbers(),
    default="1",
    show_default=True,
    help="Numbers of interpreter threads: 1, or 1,2, or 1-4.",
)
@click.option(
    "--workers",
    type=Numbers(),
    default=(),
    help="Also judge 2,000 slices with these numbers of workers: 1, or 1,2, or 1-4.",
)
@click.option("--profile", is_flag=True, help="Also time each operator of a bundle's graph.")
@click.option(
    "--loadgen", type=PATH, metavar="DIR", help="Also run MLPerf's LoadGen, and write its logs to this folder."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Device that computes a run; gpu without a GPU is an error. A bundle always runs on the processor.",
)
@click.option("--host", metavar="USER@HOST", help="Measure a bundle on this machine, reached through ssh.")
@click.option("--ssh", default="ssh", show_default=True, help="Command that reaches the host, such as 'ssh -p 2222'.")
@click.option(
    "--python", default="python3", show_default=True, help="Python on the host that has the base dependencies."
)
@click.option(
    "--quick", is_flag=True, help="Run 200 queries instead of at least 1,024 and 60 s; the result is marked as quick."
)
@engine_option
@json_option
def run(
    target: Path,
    data: Path | None,
    threads: tuple[int, ...],
    workers: tuple[int, ...],
    profile: bool,
    loadgen: Path | None,
    device: Any,
    host: str | None,
    ssh: str,
    python: str,
    quick: bool,
    engine: EngineName,
    as_json: bool,
) -> None:
    """Measure a bundle on this machine: model only, end to end, cold start, memory.

    Where OpenVINO is installed, too, it is timed against LiteRT. A run or an ensemble is measured in Keras, to compare
    its bundles with.

    \b
    Example:
      edge-ct benchmark model.tflite --threads 1,2 --workers 1,2
      edge-ct benchmark runs/ensemble --quick --device cpu
      edge-ct benchmark model.tflite --host pi@raspberrypi.local --threads 1-4
    """
    measured: Benchmark
    if host:
        if target.is_dir() or data or loadgen or device != "auto":
            raise click.UsageError(
                "--host measures a bundle on phantoms; leave out --data, --loadgen and --device, and name no run"
            )
        from .measure import kit

        words = kit.remote_options(threads, workers, profile, quick, engine)
        measured = kit.measure_on_host(host, target, words, python, ssh)
    elif target.is_dir():
        if workers or profile or loadgen or len(threads) > 1 or engine != DEFAULT_ENGINE:
            raise click.UsageError(
                "--workers, --profile, --loadgen, --engine and several --threads measure bundles, and this is a run"
            )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from .measure.keras_run import RunOptions, measure_run

        measured = measure_run(target, RunOptions(data, threads[0], quick, device), Progress())
    else:
        if device == "gpu":
            raise click.UsageError("--device gpu applies to runs; a bundle is measured on the processor")
        from .measure.bundle import BundleOptions, measure_bundle

        options = BundleOptions(data, threads, workers, quick, profile, loadgen, engine)
        measured = measure_bundle(target, options, Progress())
    if as_json:
        print_json(measured)
        return
    from .measure.summary import benchmark_lines

    for line in benchmark_lines(measured):
        click.echo(line)


@benchmark.command(short_help="Compare two measurements; fail on a regression.")
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1000),
    default=5.0,
    show_default=True,
    help="Per cent by which a figure may become worse without being a regression.",
)
@json_option
def compare(before: Path, after: Path, tolerance: float, as_json: bool) -> None:
    """Compare two files of `benchmark --json`, or two report.json; the exit code is 5 if there is a regression.

    A change that noise within the measurements explains does not count. Measure both on the same idle machine.

    \b
    Example:
      edge-ct benchmark compare before.json after.json --tolerance 5
    """
    from .measure import compare as comparison
    from .measure.summary import comparison_lines

    result = comparison.compare(comparison.read(before), comparison.read(after), tolerance)
    if as_json:
        print_json(result)
    else:
        for line in comparison_lines(result):
            click.echo(line)
    comparison.enforce(result)


benchmark.add_command(report)


@benchmark.command("kit", short_help="Pack an archive that measures a bundle on a device without network.")
@click.argument("bundle", type=PATH)
@click.option("--out", type=PATH, required=True, help="Path of the .tar.gz archive to write.")
@click.option(
    "--platform",
    metavar="TAG",
    help="Also pack the dependencies' wheels for this pip platform tag (manylinux_2_28_aarch64 is a 64-bit "
    "Raspberry Pi), or for this machine: `here`.",
)
@click.option(
    "--python-version", default="3.11", show_default=True, help="Python version of the device, for --platform TAG."
)
@click.option("--force", is_flag=True, help="Overwrite the archive if it exists.")
def make_kit(bundle: Path, out: Path, platform: str | None, python_version: str, force: bool) -> None:
    """Pack a bundle, edge-ct and a script; on the device: tar xzf kit.tar.gz && sh edge-ct-benchmark-kit/run.sh

    Without --platform the device's Python must have the base dependencies; with it, Python alone is enough.

    \b
    Example:
      edge-ct benchmark kit model.tflite --platform manylinux_2_28_aarch64 --out kit.tar.gz
    """
    from edge_ct.system.files import refuse_existing

    from .measure.kit import write_kit

    refuse_existing(out, force)
    click.echo(f"{out}: {write_kit(bundle, out, platform, python_version):,} bytes")
