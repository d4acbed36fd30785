"""Write sample outputs of the shipped models into README and the documentation: `make results` runs this.

    python scripts/sample_outputs.py

judges synthetic slices and writes what the commands print to `docs/samples.md`, the first of these outputs into README,
and a heat map to `docs/phantom-heatmap.png`. No slice of a patient is used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from edge_ct.system.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE, README, HEATMAP = ROOT / "docs" / "samples.md", ROOT / "README.md", ROOT / "docs" / "phantom-heatmap.png"
BEGIN, END = "<!-- sample: begin. `make results` writes these lines. -->", "<!-- sample: end -->"
SYNTHESISE = "edge-ct data synth phantoms --patients 10 --slices 1 --size 512 --seed 3"
PHANTOM, SLICE = "phantoms/COVID/phantom-0009-00.png", "slice.png"
CLASSIFY = f"edge-ct classify {SLICE}"
SECTIONS = (
    ("A slice", CLASSIFY),
    ("Several slices, as a table for a spreadsheet", "edge-ct classify phantoms/COVID --csv"),
    ("A slice, as JSON", f"edge-ct classify {SLICE} --json"),
    ("A picture that is not a CT slice", "edge-ct classify {picture}"),
    ("A slice with a heat map", f"edge-ct classify {SLICE} --heatmap maps"),
    ("What is in a bundle", "edge-ct bundle inspect accurate"),
)
INTRODUCTION = """\
# Sample outputs

This page shows what the commands print, for the shipped model `accurate` and synthetic slices (phantoms). `make
results` wrote it. The probabilities say nothing about patients.

- An [example report](demo-report.html) of `make demo`: data check, training, accuracy beside latency, heat maps.
- The [web page](how-to/page.md) of the worklist, in pictures.

Make the synthetic slices first; this needs no extra:

```sh
{synthesise}
cp {phantom} {slice}
```
"""


def run(command: str, folder: Path) -> str:
    """Run an `edge-ct` command in a folder, and return what it prints on standard output and standard error.

    Raises:
        CalledProcessError: The command failed.
    """
    words = [sys.executable, "-m", "edge_ct", *command.split()[1:]]
    environment = os.environ | {"HOME": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("EDGE_CT_STATE", None)
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout + re.sub(r" [\d.,]+ slices a second\.", "", done.stderr)


def make_slice(folder: Path) -> None:
    """Write the synthetic slices, and copy one to `slice.png`."""
    run(SYNTHESISE, folder)
    shutil.copy(folder / PHANTOM, folder / SLICE)


def readme_sample(folder: Path) -> str:
    """Return the lines between the markers of README: what the first command prints, as a block of code."""
    return f"{BEGIN}\n{textwrap.indent(run(CLASSIFY, folder).strip(), '    ')}\n{END}"


def write_samples(folder: Path) -> None:
    """Write the page, README's sample and the heat map.

    Args:
        folder: Empty folder to run the commands in.
    """
    make_slice(folder)
    picture = "docs/tradeoff.png"
    (folder / "docs").mkdir()
    shutil.copy(ROOT / picture, folder / picture)
    parts = [INTRODUCTION.format(synthesise=SYNTHESISE, phantom=PHANTOM, slice=SLICE)]
    for title, template in SECTIONS:
        command = template.format(picture=picture)
        parts.append(f"## {title}\n\n```sh\n{command}\n```\n\n```text\n{run(command, folder).strip()}\n```\n")
        if "--heatmap" in command:
            (drawn,) = (folder / "maps").glob("*.png")
            shutil.copy(drawn, HEATMAP)
            parts.append(f"![A synthetic slice beside the same slice under its lesion map]({HEATMAP.name})\n")
    write_text(PAGE, "\n".join(parts))
    text, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        readme_sample(folder).replace("\\", r"\\"),
        README.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit(f"README.md: has {count} blocks between '{BEGIN}' and '{END}', not one")
    write_text(README, text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        write_samples(Path(temporary))
