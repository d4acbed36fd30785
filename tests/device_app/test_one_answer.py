"""One object has one answer: the same objects through every door have the same decisions, probabilities and reasons."""

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from edge_ct.classifier import Classifier
from edge_ct.device_app.judging.judge import InProcess
from edge_ct.device_app.watch.hot_folder import Watch
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.imaging.slice_files import is_slice_file

from .fifty_objects import ROOT, fifty_objects

pytest.importorskip("flask", reason="the web extra is not installed")
pytest.importorskip("waitress", reason="the web extra is not installed")
pytest.importorskip("pynetdicom", reason="the dicom extra is not installed")

from edge_ct.device_app.dicom.node import Node, NodeOptions
from edge_ct.device_app.dicom.receive.listener import Listener, ListenerOptions
from edge_ct.device_app.dicom.receive.spool import Spool
from edge_ct.device_app.web.request_checks import allowed_hosts
from edge_ct.device_app.web.services import Services

from .web.conftest import Home, browser, token_of

# Decision, probability and reason of a slice.
Answer = tuple[str, float | None, str | None]
Answers = dict[str, Answer]
PATIENCE = 120.0
# Folders hold other things than slices; these are named in one line, and a row for those that are given by name.
LEFT_OUT = ("animation.gif", "bitmap.bmp", "boxes.jp2", "web.webp")


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    made = fifty_objects()
    assert len(made) >= 50
    return made


@pytest.fixture(scope="module")
def study(objects: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers") / "study"
    folder.mkdir()
    for name, data in objects.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def classified(study: Path, tiny_bundle: Path) -> Answers:
    """What `edge-ct classify` says of the folder, and of what it leaves out, by the name of the slice."""
    command = [
        "classify",
        study,
        *(study / name for name in LEFT_OUT),
        "--json",
        "--model",
        tiny_bundle,
        "--state",
        study.parent / "classify",
    ]
    done = subprocess.run([sys.executable, "-m", "edge_ct", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert all(name in done.stderr for name in LEFT_OUT)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        row["source"].removeprefix(f"{study}/"): (row["decision"], row["probability"], row["reason"]) for row in rows
    }


@pytest.fixture(scope="module")
def in_folder(classified: Answers) -> Answers:
    """What `edge-ct classify` says of the folder alone."""
    return {name: answer for name, answer in classified.items() if name not in LEFT_OUT}


@pytest.fixture(scope="module")
def judge(tiny_bundle: Path) -> InProcess:
    return InProcess(Classifier(tiny_bundle))


def stored(worklist: Worklist, name_of: Callable[[str], str]) -> Answers:
    rows = worklist.rows(limit=1000)
    assert len({row.source for row in rows}) == len(rows)
    return {name_of(row.source): (row.decision, row.probability, row.reason) for row in rows}


def test_the_objects_are_of_many_kinds(classified: Answers, objects: dict[str, bytes]) -> None:
    """Every file has at least one row; slices are judged, and what is none, or is damaged, has a reason of its own."""
    assert {name.partition("#")[0] for name in classified} == set(objects)
    judged = {name for name, answer in classified.items() if answer[1] is not None}
    assert {"chest.dcm", "padding.dcm", "no identifiers.dcm", "grey.png", "progressive.jpeg", "lzw.tiff"} <= judged
    assert {f"no preamble{kind}.dcm" for kind in ("", ", implicit", ", explicit")} <= judged
    assert {f"frames, one damaged.dcm#{number}" for number in (1, 2, 4)} <= judged
    assert "frames, one of another size.dcm#2" not in judged
    assert len(judged) >= 20
    reasons = {answer[2] for name, answer in classified.items() if name not in judged}
    assert len(reasons) >= 25
    assert None not in reasons


def test_every_reason_is_translated(classified: Answers) -> None:
    from edge_ct.device_app.web.translations import Words

    portuguese = Words("pt-BR")
    reasons = {answer[2] for answer in classified.values() if answer[2]}
    assert sorted(reason for reason in reasons if portuguese.reason(reason) == reason) == []


def test_watch(in_folder: Answers, study: Path, judge: InProcess) -> None:
    now, said = 0.0, []
    with Worklist(study.parent / "watch", min_free=0) as worklist:
        watch = Watch(study, worklist, judge, 3.0, said.append, clock=lambda: now)
        assert list(watch.scan()) == []
        now = 60.0
        assert all(added.new for added in watch.scan())
        assert stored(worklist, lambda source: source.removeprefix(f"{study}/")) == in_folder
    (line,) = said
    assert all(name in line for name in LEFT_OUT)


def send(port: int, objects: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    """C-STORE objects; status and error comment by name, of those that a peer can send at all."""
    import pydicom
    from pynetdicom import AE

    datasets = {}
    for name, data in objects.items():
        try:
            dataset = pydicom.dcmread(BytesIO(data))
        except Exception:  # A peer sends no object that it cannot read.
            continue
        if "SOPClassUID" in dataset:
            datasets[name] = dataset
    entity = AE(ae_title="SCANNER")
    for kind, syntax in {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets.values()}:
        entity.add_requested_context(kind, syntax)
    association = entity.associate("127.0.0.1", port, ae_title="EDGECT")
    assert association.is_established
    answers = {}
    for name, dataset in datasets.items():
        try:
            answer = association.send_c_store(dataset)
        except (ValueError, AttributeError):  # No context was accepted, or the object has no instance UID.
            continue
        answers[name] = (int(answer.Status), str(answer.get("ErrorComment") or ""))
    association.release()
    return answers


def test_listen(classified: Answers, study: Path, objects: dict[str, bytes], judge: InProcess) -> None:
    """What is acknowledged has the same answers; what is refused is rejected by the others, for the same reason."""
    import pydicom

    dicom = {name: data for name, data in objects.items() if name.endswith(".dcm")}
    with warnings.catch_warnings(), Worklist(study.parent / "listen", min_free=0) as worklist:
        warnings.simplefilter("ignore")
        spool = Spool(study.parent / "listen" / "dicom", worklist, min_free=0)
        node = Node(worklist, spool, judge.bundle, [], NodeOptions(quiet=0.2, workers=1), judge)
        node.start()
        listener = Listener(spool, node.arrived, ListenerOptions(port=0))
        try:
            answers = send(listener.port, dicom)
            end = time.monotonic() + PATIENCE
            while node.clock.open_topics():
                assert time.monotonic() < end
                time.sleep(0.02)
        finally:
            listener.stop()
            node.stop()
        names = {str(pydicom.dcmread(BytesIO(dicom[name])).get("SOPInstanceUID")): name for name in answers}
        assert all(uid.startswith(ROOT) for uid in names)

        def name_of(source: str) -> str:
            uid, mark, frame = source.removeprefix("DICOM ").partition("#")
            return f"{names[uid]}{mark}{frame}"

        found = stored(worklist, name_of)
    accepted = {name for name, (status, _) in answers.items() if status == 0}
    assert len(accepted) >= 20
    assert found == {name: answer for name, answer in classified.items() if name.partition("#")[0] in accepted}
    for name, (status, comment) in answers.items():
        if status == 0 or name == "no identifiers.dcm":  # Over the network an object needs its UIDs.
            continue
        decision, _, reason = classified[name]
        assert decision == "rejected"
        if status == 0xC000:  # The object could not be understood; other statuses have words of their own.
            assert str(reason).startswith(comment.removesuffix("?"))


@pytest.fixture
def page(study: Path, judge: InProcess, tmp_path: Path) -> Any:
    """The services of `edge-ct serve`, which offer the folder of the study and a stick that holds the same objects."""
    root = tmp_path / "media"
    stick = root / "stick" / "DICOM"
    stick.mkdir(parents=True)
    for path in study.iterdir():
        (stick / path.name.upper()).write_bytes(path.read_bytes())
        bare = stick / path.stem.upper().replace(" ", "_")
        bare.write_bytes(path.read_bytes())
        (stick / path.name.upper() if is_slice_file(bare) and path.suffix == ".dcm" else bare).unlink()
    roots = [study, root]
    services = Services(
        judge.bundle,
        Worklist(tmp_path / "state", min_free=0),
        allowed_hosts(8042, lan=False, more=[]),
        roots=roots,
        workers=1,
        judge=judge,
    )
    services.open()
    services.queue.wait(60)
    yield services
    services.close()


def ask(services: Services) -> tuple[Home, dict[str, str]]:
    client = browser(services)
    return client, {"X-CSRF-Token": token_of(client.get("/").text), "Accept": "application/json"}


def test_upload(classified: Answers, objects: dict[str, bytes], page: Services) -> None:
    client, headers = ask(page)
    names, answers = list(objects), []
    for start in range(0, len(names), 8):
        files = [(BytesIO(objects[name]), name) for name in names[start : start + 8]]
        sent = client.post("/upload", data={"files": files}, headers=headers)
        assert sent.status_code == 201, sent.text[:500]
        answers += sent.json["files"]
    assert {answer["name"]: answer["decision"] for answer in answers} == {
        name: answer[0] for name, answer in classified.items()
    }
    assert stored(page.worklist, lambda source: source) == classified


@pytest.mark.parametrize("door", ["folder", "stick"])
def test_folder_of_the_page(in_folder: Answers, page: Services, study: Path, door: str) -> None:
    client, headers = ask(page)
    roots = {folder.name: folder for folder in page.folders.roots()}
    if door == "folder":
        token = roots["study"].token
        names = {f"study/{name}": name for name in in_folder}
    else:
        (stick,) = page.folders.subfolders(roots["media"].token) or []
        token = stick.token
        names = {}
        for name in in_folder:
            file, mark, frame = name.partition("#")
            upper = file.upper()
            if file.endswith(".dcm"):
                upper = upper.removesuffix(".DCM").replace(" ", "_")
            names[f"stick/DICOM/{upper}{mark}{frame}"] = name
    assert client.post(f"/folders/{token}/read", headers=headers).status_code == 303
    end = time.monotonic() + PATIENCE
    while page.reader.state is None or page.reader.state.running:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert stored(page.worklist, lambda source: names[source]) == in_folder
    assert "BMP files, which are not read (save them as PNG)" in str(page.reader.state.message)
