"""Rows of `benchmarks/results/*-groups.csv`, from what `data group --json` printed for slices and for phantoms.

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


def group_row(slices: dict[str, Any], phantoms: dict[str, Any]) -> dict[str, object]:
    """Return one row: limits, counts, and how well the groups of phantoms agree with their patients.

    Args:
        slices: What `data group --json` printed for the slices.
        phantoms: The same for the phantoms.

    Raises:
        EdgeCTError: The limits differ, or the patients of the phantoms are not known.
    """
    if slices["limits"] != phantoms["limits"]:
        raise EdgeCTError(
            f"the limits differ: {slices['limits']} and {phantoms['limits']}; group both with the same limits"
        )
    if phantoms["recall"] is None:
        raise EdgeCTError("the phantoms were grouped without their patients; group slices.csv with --regroup")
    shares = {
        "discordant_share": slices["discordant_links"] / max(1, slices["links"]),
        "nearest_in_group": slices["nearest_in_group"],
        "phantom_precision": phantoms["precision"],
        "phantom_recall": phantoms["recall"],
    }
    return {
        **slices["limits"],
        **{name: slices[name] for name in _COUNTS},
        "mixed": len(slices["mixed"]),
        **{name: "" if share is None else f"{share:.5f}" for name, share in shares.items()},
        **{f"phantom_{name}": phantoms[name] for name in ("n", "groups", "largest")},
    }


def main(out: str, *pairs: str) -> None:
    """Write the table to `out`."""
    rows = [group_row(*(json.loads(Path(name).read_text()) for name in pair.split(","))) for pair in pairs]
    write_text(Path(out), to_csv(tuple(rows[0]), (entry.values() for entry in rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
