"""`edge-ct doctor`: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from edge_ct.shipped_models import find_bundle
from edge_ct.system.progress import print_json

from ..command_options import model_option, state_option

EXIT_CODES = {"good": 0, "warning": 0, "failure": 10}
_COLOURS = {"good": "green", "warning": "yellow", "failure": "red"}


@click.command(short_help="Check model, machine and worklist of a device.")
@model_option
@state_option
@click.option("--again", is_flag=True, help="Run the golden slices although they were right here before.")
@click.option("--strict", is_flag=True, help="Exit with 10 on warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON alone on standard output.")
@click.pass_context
def doctor(context: click.Context, model: str | None, state: Path, again: bool, strict: bool, as_json: bool) -> None:
    """Check that this device is fit to judge; exit code 10 where something failed, for monitoring.

    The bundle's seal and golden slices (once for each bundle, runtime and machine), the runtime, memory, temperature,
    clock, disk, and the worklist with its audit trail.

    \b
    Example:
      edge-ct doctor --model model.tflite --json
    """
    from . import doctor as doctors

    checks = doctors.examine(find_bundle(model), state, again)
    found = doctors.worst(checks)
    if as_json:
        print_json({"status": found, "checks": [msgspec.structs.asdict(check) for check in checks]})
    else:
        for check in checks:
            click.echo(
                f"{click.style(f'{check.status:<8}', fg=_COLOURS[check.status])} {check.name:<12} {check.detail}"
            )
    context.exit(EXIT_CODES["failure"] if strict and found == "warning" else EXIT_CODES[found])
