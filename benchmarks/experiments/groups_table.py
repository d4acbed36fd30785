"""Rows of `benchmarks/results/*-groups.csv`, from what `data group --json` printed of slices and of phantoms.

python -m edge_ct.benchmarks.experiments.groups_table OUT.csv SLICES.json,PHANTOMS.json [...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edge_ct.errors import EdgeCTError
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text

_COUNTS = ("n", "links", "discordant_links", "groups", "largest", "alone")


def row(found: dict[str, Any], phantoms: dict[str, Any]) -> dict[str, object]:
    """One row: limits, counts, and how groups of phantoms agree with their patients.

    Raises `EdgeCTError` where the limits differ, or the phantoms' patients are not known.
    """
    if found["limits"] != phantoms["limits"]:
        raise EdgeCTError(f"limits {found['limits']} and {phantoms['limits']}: not one setting")
    if phantoms["recall"] is None:
        raise EdgeCTError("the phantoms were grouped without their patients: group slices.csv, with --regroup")
    shares = {
        "discordant_share": found["discordant_links"] / max(1, found["links"]),
        "nearest_in_group": found["nearest_in_group"],
        "phantom_precision": phantoms["precision"],
        "phantom_recall": phantoms["recall"],
    }
    return {
        **found["limits"],
        **{name: found[name] for name in _COUNTS},
        "mixed": len(found["mixed"]),
        **{name: "" if share is None else f"{share:.5f}" for name, share in shares.items()},
        **{f"phantom_{name}": phantoms[name] for name in ("n", "groups", "largest")},
    }


def main(out: str, *pairs: str) -> None:
    """Write the table."""
    rows = [row(*(json.loads(Path(name).read_text()) for name in pair.split(","))) for pair in pairs]
    write_text(Path(out), to_csv(tuple(rows[0]), (entry.values() for entry in rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
