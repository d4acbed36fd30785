"""Read the results that a device has stored, and write a table of open cases.

    edge-ct classify study/ --worklist
    python examples/read_a_worklist.py [--state FOLDER] > open-cases.csv

`edge-ct worklist list --json` prints one object a line, the most urgent result first; its field names are stable.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

from edge_ct.errors import EdgeCTError
from edge_ct.system.child_command import run_command

COLUMNS = ("id", "time", "source", "decision", "probability", "reason", "model")


def main() -> None:
    """Write the open results as CSV to standard output."""
    parser = argparse.ArgumentParser(description="Write the open results of a worklist as CSV.")
    parser.add_argument("--state", help="folder of the worklist; the default is that of edge-ct")
    state = parser.parse_args().state
    words = ["worklist", "list", "--open", "--json", *(["--state", state] if state else [])]
    lines = run_command(words, show_progress=False).text.splitlines()
    writer = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(json.loads(line) for line in lines)


if __name__ == "__main__":
    try:
        main()
    except EdgeCTError as error:  # one line on standard error, as the commands print it
        sys.exit(f"{Path(__file__).name}: {error}")
