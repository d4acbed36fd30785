"""`edge-ct benchmark` and `edge-ct demo`: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edge_ct.progress import Progress, print_json


@click.command(short_help="Measure a bundle's latency and memory.")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE_OR_RUN")
@click.option("--data", type=click.Path(path_type=Path), help="Slices to measure on; 512 px phantoms by default.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of the interpreter.")
@click.option("--quick", is_flag=True, help="200 queries instead of at least 1,024 and 60 s; marked so.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def benchmark(bundle: Path, data: Path | None, threads: int, quick: bool, as_json: bool) -> None:
    """Measure a bundle on this machine: model only, end to end, cold start, memory.

    A run or an ensemble too, in Keras: what its bundle is to be compared with.

    \b
    Example:
      edge-ct benchmark model.tflite --threads 2
      edge-ct benchmark runs/ensemble --quick
    """
    from . import latency

    if bundle.is_dir():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from . import run_latency

        found = run_latency.benchmark(bundle, data, threads, quick, Progress())
    else:
        found = latency.benchmark(bundle, data, threads, quick, Progress())
    if as_json:
        print_json(found)
        return
    click.echo(f"{found.model}, {found.bytes:,} bytes, on {found.slices}{' (quick: too few for a report)' * quick}")
    for name, times in (("model only", found.model_only), ("end to end", found.end_to_end)):
        click.echo(
            f"  {name:<11} p50 {times.p50_ms:.2f}  p90 {times.p90_ms:.2f}  p99 {times.p99_ms:.2f}  "
            f"mean {times.mean_ms:.2f} ms  (n = {times.n}, threads {times.threads})"
        )
    click.echo(f"  cold start  {found.cold_start_ms:.0f} ms, peak memory {found.peak_rss_mb:.0f} MB")
    click.echo(f"  sustained   {found.slices_per_second:.0f} slices a second")
    click.echo(f"  {found.machine.cpu}, {found.machine.cores} cores; {found.machine.runtime}")


@click.command(short_help="The whole line on synthetic slices, in a few minutes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("edge-ct-demo"),
    show_default=True,
    help="Folder to write.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def demo(out: Path, force: bool) -> None:
    """Make phantom slices, train, convert to int8, evaluate, benchmark, classify, and write report.html.

    All slices are synthetic: the figures say that the software works, nothing about patients.

    \b
    Example:
      edge-ct demo --out demo
    """  # fmt: skip
    from . import demo as demonstration

    demonstration.run(out, force, Progress())
