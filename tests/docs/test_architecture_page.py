"""docs/explanation/architecture.md names files that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_path_of_the_page_exists() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    folders = "edge_ct|train|convert|device_app|benchmarks|recipes|examples|scripts|tests"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    assert len(paths) > 50
    assert [path for path in paths if not (ROOT / path).exists()] == []
