"""Several processes write one worklist at once: real ones, each with its own connection."""

import subprocess
import sys
from pathlib import Path

from edge_ct.device_app.worklist.worklist import Worklist

WRITER = """
import sys
from edge_ct.classifier import Classifier
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice
from edge_ct.slices import Slice

folder, bundle, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
classifier = Classifier(bundle)
print("ready", flush=True)
sys.stdin.readline()
with Worklist(folder) as worklist:
    for number in range(first, last):
        judgement = classifier.judge_slice(Slice(make_slice(number, 3, True, 64).image, f"{number}.png"))
        entry = prepare_entry(judgement, classifier.bundle, origin="classify", patient=f"patient {number}")
        added = worklist.add(entry)
        worklist.queue("out").put(str(number), {"result": added.row.id})
        worklist.rows(limit=3)
        print(added.row.id, added.row.patient, flush=True)
"""


def test_processes_that_begin_and_fill_a_worklist_at_once(tmp_path: Path, tiny_bundle: Path) -> None:
    """Four writers of 20 slices, each overlapping its neighbour by ten: nothing lost, nothing twice, one device key."""
    folder = tmp_path / "state"
    spans = [(0, 20), (10, 30), (20, 40), (30, 50)]
    command = [sys.executable, "-c", WRITER, str(folder), str(tiny_bundle)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    writers = [subprocess.Popen([*command, str(first), str(last)], text=True, **pipes) for first, last in spans]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    told = [writer.communicate("go\n", timeout=300) for writer in writers]
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, told, strict=True)] == [(0, "")] * 4
    lines = [line.split() for out, _ in told for line in out.splitlines()]
    with Worklist(folder) as worklist:
        rows = worklist.rows()
        assert len(rows) == 50
        assert {int(number) for number, _ in lines} == {row.id for row in rows}
        assert len(lines) == 80
        # A patient has one pseudonym, whichever process made the key.
        assert {key for _, key in lines} == {row.patient for row in rows}
        assert {row.patient for row in rows} == {worklist.pseudonym(f"patient {number}") for number in range(50)}
        assert worklist.queue("out").counts()["waiting"] == 50
        found = worklist.check()
        assert (found.entries, found.results) == (80, 50)
