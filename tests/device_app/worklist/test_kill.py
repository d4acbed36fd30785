"""SIGKILL at random moments while slices are judged: what was acknowledged is there, the trail is whole, work goes on.

Some 20 kills among 60 slices; with EDGE_CT_LONG_TESTS=1 they are 200 among 500.

The kernel outlives the process, so this shows that no acknowledgement comes before its commit and that nothing is half
written; that a commit reaches the disk itself is `synchronous=FULL`, asked of SQLite in test_worklist.py.
"""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

import cv2
import pytest

from edge_ct.classifier import Classifier
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

from ...conftest import LONG

KILLS, SLICES = (200, 500) if LONG else (20, 60)

pytestmark = pytest.mark.slow

WRITER = """
import sys
from edge_ct.classifier import Classifier
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.system.progress import print_json

state, bundle, sources = sys.argv[1], sys.argv[2], sys.argv[3:]
classifier = Classifier(bundle)
with Worklist(state) as worklist:
    for source in sources:
        print_json(worklist.add(prepare_entry(classifier.judge(source), classifier.bundle, origin="classify")).row)
"""


class Victim:
    """A program that judges slices and acknowledges each by a line of JSON with `id` and `source`."""

    def __init__(self, name: str, *arguments: str, python: str | None = None) -> None:
        self.name = name
        self._head = [sys.executable, *(["-c", python] if python else ["-m", "edge_ct"]), *arguments]

    def command(self, state: Path, bundle: Path, folder: Path, remaining: Sequence[str]) -> list[str]:
        """To be started with what is not acknowledged yet."""
        options = ["--model", str(bundle), "--state", str(state)]
        if self.name == "worklist":
            return [*self._head, str(state), str(bundle), *remaining]
        if self.name == "watch":
            return [*self._head, str(folder), *options]
        return [*self._head, *remaining, *options]

    def stored(self, name: str) -> str:
        """What the worklist calls a slice."""
        return name

    def acknowledgements(self, process: subprocess.Popen[str], remaining: Sequence[str]) -> Iterator[tuple[int, str]]:
        """What it acknowledges, as it comes: number and source of each row. Ends with the process."""
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):  # the last line may be cut: that is no acknowledgement
                own = json.loads(line)
                yield own["id"], own["source"]


class Page(Victim):
    """The web page: two uploads at a time would hide which one was cut, so one after the other; then it is stopped."""

    def command(self, state: Path, bundle: Path, folder: Path, remaining: Sequence[str]) -> list[str]:
        return [*self._head, "--model", str(bundle), "--state", str(state)]

    def stored(self, name: str) -> str:
        return Path(name).name

    def acknowledgements(self, process: subprocess.Popen[str], remaining: Sequence[str]) -> Iterator[tuple[int, str]]:
        from ..web.conftest import Browser, Served

        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            return
        served = Served(process, json.loads(line)["urls"][0], [], None, Path())
        try:
            browser = Browser(served)
            for name in remaining:
                status, said = browser.upload(Path(name).name, Path(name).read_bytes())
                assert status == 201, said
                yield said["files"][0]["id"], self.stored(name)
        except (OSError, HTTPException):  # killed
            return
        finally:
            for connection in served.connections:
                connection.close()
            process.terminate()


# Others join here: a program with another way to acknowledge overrides `acknowledgements`.
VICTIMS = [
    Victim("worklist", python=WRITER),
    Victim("classify", "classify", "--json", "--worklist", "--workers", "2"),
    Victim("watch", "watch", "--json", "--once", "--settle", "0.05", "--interval", "0.05", "--workers", "2"),
    Page("serve", "serve", "--json", "--port", "0"),
]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices that all differ."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(SLICES):
        image = make_slice(number % 40, 3, number % 2 == 0, 64).image.copy()
        image[0, :2] = divmod(number, 256)
        cv2.imwrite(str(folder / f"{number:04}.png"), image)
    return folder


@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.name)
def test_nothing_acknowledged_is_lost(victim: Victim, slices: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    wanted = -(-KILLS // len(VICTIMS))
    chance = random.Random(victim.name)
    if victim.name == "serve":
        pytest.importorskip("flask", reason="the web extra is not installed")
    names = [str(path) for path in sorted(slices.iterdir())]
    expected = {victim.stored(name): Classifier(tiny_bundle).classify(name).probability for name in names[:3]}
    kills = acknowledged_in_all = idle = rounds = 0
    while kills < wanted:
        state = tmp_path / f"state-{rounds}"
        rounds += 1
        acknowledged: dict[int, str] = {}
        finished = False
        while not finished:
            done = set(acknowledged.values())
            remaining = [name for name in names if victim.stored(name) not in done]
            if not remaining:  # killed between its last acknowledgement and its end
                break
            before = len(acknowledged)
            finished = _run(
                victim, state, tiny_bundle, slices, remaining, acknowledged, chance if kills < wanted else None
            )
            kills += not finished
            idle += not finished and len(acknowledged) == before
            if (state / "worklist.sqlite").exists():
                _check(state, acknowledged)
        with Worklist(state) as worklist:
            rows = worklist.rows()
            assert sorted(row.source for row in rows) == [victim.stored(name) for name in names]  # every slice, once
            assert {row.source: row.probability for row in rows if row.source in expected} == expected
        acknowledged_in_all += len(acknowledged)
    print(
        f"\n{victim.name}: killed {kills} times ({idle} before a first acknowledgement), {rounds} rounds of {SLICES}, "
        f"{acknowledged_in_all} acknowledged, none lost, every slice stored once"
    )
    assert kills >= wanted
    # A watcher killed between commit and line has stored what it never acknowledges.
    assert wanted < acknowledged_in_all <= rounds * SLICES


def _run(
    victim: Victim,
    state: Path,
    bundle: Path,
    folder: Path,
    remaining: Sequence[str],
    acknowledged: dict[int, str],
    chance: random.Random | None,
) -> bool:
    """Start the victim and, with `chance`, kill it at a random moment. Returns whether it ended by itself."""
    process = subprocess.Popen(
        victim.command(state, bundle, folder, remaining), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    heard = threading.Semaphore(0)

    def listen() -> None:
        for number, source in victim.acknowledgements(process, remaining):
            acknowledged[number] = source
            heard.release()

    listener = threading.Thread(target=listen)
    listener.start()
    if chance is not None:
        # One in five dies while it starts; the others after a few acknowledgements and a moment.
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 1))
        else:
            for _ in range(chance.randint(1, 4)):
                while not heard.acquire(timeout=0.05) and process.poll() is None and listener.is_alive():
                    pass
            time.sleep(chance.uniform(0, 0.03))
        process.kill()
    assert process.stderr is not None
    said = process.stderr.read()
    listener.join(timeout=300)
    assert not listener.is_alive()
    code = process.wait(timeout=300)
    process.stdout.close() if process.stdout else None
    process.stderr.close()
    assert code in (0, -9), said
    return code == 0


def _check(state: Path, acknowledged: dict[int, str]) -> None:
    """The worklist as a restart finds it."""
    with Worklist(state) as worklist:
        worklist.check()  # PRAGMA integrity_check, the chain, every row against its entry
        rows = {row.id: row for row in worklist.rows()}
        lost = {number: source for number, source in acknowledged.items() if number not in rows}
        assert lost == {}
        assert {number: rows[number].source for number in acknowledged} == acknowledged
        for number in list(rows)[:5]:
            assert worklist.picture(number) is not None
