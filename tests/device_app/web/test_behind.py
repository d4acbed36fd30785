"""Behind the page: judging queue, folders, events, pictures, health of the device."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct.bundle import Bundle, read_bundle, write_bundle
from edge_ct.device_app.heatmaps import slice_pictures
from edge_ct.device_app.heatmaps.heatmap import Heat
from edge_ct.device_app.judging.pool import JudgingPool
from edge_ct.device_app.judging.sources import Source
from edge_ct.device_app.maintenance import health
from edge_ct.device_app.web.events import Events
from edge_ct.device_app.web.folders import FolderProgress, FolderReader, Folders
from edge_ct.device_app.web.judging_queue import Busy, JudgingQueue
from edge_ct.device_app.web.services import Services
from edge_ct.device_app.worklist import Worklist
from edge_ct.device_app.worklist.records import Entry
from edge_ct.errors import EdgeCTError, ModelRejected

from .conftest import Home, png, token_of


def wait_for(what: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


class TestWorkers:
    @pytest.fixture
    def bundle(self, tiny_bundle: Path) -> Bundle:
        return read_bundle(tiny_bundle)

    def test_a_future_is_done_when_the_row_is_kept(self, bundle: Bundle) -> None:
        kept: list[str] = []

        def keep(entries: Sequence[Entry]) -> str:
            kept.append(entries[0].source)
            return entries[0].decision

        queue: JudgingQueue[str] = JudgingQueue(bundle, keep, 2)
        queue.open()
        assert queue.wait(60)
        assert queue.ready
        futures = [queue.submit(f"{i}.png", lambda: png(1, 2), 10) for i in range(5)]
        assert {future.result(60) for future in futures} <= {"positive", "negative", "refer"}
        assert sorted(kept) == [f"{i}.png" for i in range(5)]
        assert queue.check() > 0
        assert queue.close(60)
        with pytest.raises(Busy):
            queue.submit("late.png", lambda: b"")

    def test_the_queue_is_bounded_and_closing_finishes_it(self, bundle: Bundle) -> None:
        hold = threading.Event()

        def keep(entries: Sequence[Entry]) -> str:
            hold.wait(60)
            return entries[0].source

        queue: JudgingQueue[str] = JudgingQueue(bundle, keep, 1, capacity=2)
        queue.open()
        queue.wait(60)
        first = queue.submit("first", lambda: png(1, 2))
        wait_for(lambda: not queue.waiting)
        queued = [queue.submit(name, lambda: png(1, 2)) for name in ("second", "third")]
        with pytest.raises(Busy, match="2 slices are waiting"):
            queue.submit("fourth", lambda: png(1, 2))
        hold.set()
        assert queue.close(60)
        assert [future.result(0) for future in (first, *queued)] == ["first", "second", "third"]

    def test_closing_a_queue_that_stays_full_ends_the_workers_too(self, bundle: Bundle) -> None:
        hold = threading.Event()

        def keep(entries: Sequence[Entry]) -> str:
            hold.wait(60)
            return entries[0].source

        queue: JudgingQueue[str] = JudgingQueue(bundle, keep, 1, capacity=1)
        pool = queue.judge
        assert isinstance(pool, JudgingPool)
        queue.open()
        queue.wait(60)
        first = queue.submit("first", lambda: png(1, 2))
        wait_for(lambda: not queue.waiting)
        second = queue.submit("second", lambda: png(1, 2))
        assert not queue.close(0.2)
        assert pool._server._control.fileno() == -1
        assert not pool._free
        hold.set()
        assert first.result(60) == "first"
        assert isinstance(second.exception(60), EdgeCTError)  # no worker is left
        queue._queue.put(None)  # ends the thread

    def test_a_failure_is_the_slices_alone(self, bundle: Bundle) -> None:
        def keep(entries: Sequence[Entry]) -> str:
            if entries[0].source == "full":
                raise EdgeCTError("no room")
            return entries[0].decision

        queue: JudgingQueue[str] = JudgingQueue(bundle, keep, 1)
        queue.open()
        queue.wait(60)
        assert isinstance(queue.submit("full", lambda: png(1, 2)).exception(60), EdgeCTError)
        assert queue.submit("not a slice", lambda: b"text").result(60) == "rejected"
        assert queue.close(60)

    def test_a_model_that_is_wrong_here_never_gets_ready(self, bundle: Bundle, tmp_path: Path) -> None:
        golden = tuple(msgspec.structs.replace(one, logits=(50.0, -50.0)) for one in bundle.manifest.golden)
        members = {one.input: bundle.member(one.input) for one in golden}
        manifest = msgspec.structs.replace(bundle.manifest, golden=golden)
        write_bundle(tmp_path / "wrong.tflite", bundle.model, manifest, members)
        queue: JudgingQueue[str] = JudgingQueue(read_bundle(tmp_path / "wrong.tflite"), lambda judgement: "", 1)
        queue.open()
        with pytest.raises(ModelRejected, match="do not use it here"):
            queue.wait(60)
        assert not queue.ready
        queue.close(60)


class TestFolders:
    @pytest.fixture
    def stick(self, tmp_path: Path) -> Path:
        root = tmp_path / "media"
        for name in ("stick/study", "other", ".hidden"):
            (root / name).mkdir(parents=True)
        (root / "stick" / "study" / "a.png").write_bytes(png(1, 2))
        secret = tmp_path / "secret"
        secret.mkdir()
        (secret / "b.png").write_bytes(png(2, 2))
        (root / "way-out").symlink_to(secret)
        (root / "stick" / "b.png").symlink_to(secret / "b.png")
        return root

    def test_what_lies_below_is_shown_links_and_hidden_ones_not(self, stick: Path) -> None:
        folders = Folders([stick])
        (root,) = folders.roots()
        below = folders.subfolders(root.token)
        assert below is not None
        assert [one.name for one in below] == ["other", "stick"]
        study = (folders.subfolders(below[1].token) or [])[0]
        assert (study.name, study.slices) == ("study", 1)
        assert [one.name for one in folders.breadcrumbs(study.token)] == ["media", "stick", "study"]
        assert folders.path(study.token) == (stick / "stick" / "study").resolve()

    def test_only_what_was_shown_can_be_named(self, stick: Path) -> None:
        folders, others = Folders([stick]), Folders([stick])
        for token in ("", "..", "/etc", "0" * 32, others.roots()[0].token, str(stick)):
            assert folders.path(token) is None
            assert folders.subfolders(token) is None
            assert folders.breadcrumbs(token) == []

    def test_a_folder_that_became_a_link_is_not_followed(self, stick: Path, tmp_path: Path) -> None:
        folders = Folders([stick])
        below = folders.subfolders(folders.roots()[0].token) or []
        other = next(one for one in below if one.name == "other")
        (stick / "other").rmdir()
        (stick / "other").symlink_to(tmp_path / "secret")
        assert folders.path(other.token) is None

    def test_a_root_that_is_no_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(EdgeCTError, match="not a folder"):
            Folders([tmp_path / "nothing"])

    def test_a_stick_is_read_into_the_worklist(self, client: Home, services: Services, tmp_path: Path) -> None:
        stick = tmp_path / "stick"
        (stick / "study").mkdir()
        for i in range(12):
            (stick / "study" / f"{i}.png").write_bytes(png(i, i % 5))
        (stick / "study" / "bad.png").write_bytes(b"none")
        (tmp_path / "outside.png").write_bytes(png(99, 2))
        (stick / "outside.png").symlink_to(tmp_path / "outside.png")
        page = client.get("/add").text
        token = page.partition('href="/folders/')[2].partition('"')[0]
        headers = {"X-CSRF-Token": token_of(page)}
        assert "study" in client.get(f"/folders/{token}").text
        assert client.get("/folders/nothing").status_code == 404
        assert client.post("/folders/nothing/read", headers=headers).status_code == 404
        assert client.post(f"/folders/{token}/read", headers=headers).status_code == 303
        wait_for(lambda: services.reader.state and not services.reader.state.running)
        assert services.reader.state is not None
        assert (services.reader.state.total, services.reader.state.done, services.reader.state.failed) == (13, 13, 0)
        sources = {row.source for row in services.worklist.rows()}
        assert len(sources) == 13
        assert "stick/study/3.png" in sources
        page = client.get("/add").text
        assert "13 of 13" in page
        assert "links out of the folders that this page may read: 1 (outside.png)" in page

    def test_what_cannot_be_read_on_a_stick_is_a_row(self, services: Services, tmp_path: Path) -> None:
        stick = tmp_path / "stick"
        (stick / "a.png").write_bytes(png(1, 2))
        (stick / "notes.txt").write_text("none")
        (stick / "loop").symlink_to(stick / "loop")
        assert services.reader.start(stick)
        wait_for(lambda: services.reader.state and not services.reader.state.running)
        rows = {row.source: row.reason for row in services.worklist.rows()}
        assert set(rows) == {"stick/a.png", "stick/loop"}
        assert rows["stick/loop"] == "cannot be read: Too many levels of symbolic links"
        assert services.reader.state is not None
        assert "files that are not slices: 1 (notes.txt)" in str(services.reader.state.message)

    def test_reading_that_fails_is_said_to_have_ended(self, stick: Path) -> None:
        reports: list[FolderProgress] = []

        def submit(source: Source) -> Future[Any]:
            raise RecursionError

        reader = FolderReader(Folders([stick]), submit, reports.append)
        assert reader.start(stick / "stick")
        deadline = time.monotonic() + 30  # to stop it could keep it from the first slice
        while reports[-1].running and time.monotonic() < deadline:
            time.sleep(0.01)
        reader.stop(timeout=30)
        assert (reports[-1].running, reports[-1].message) == (False, "reading ended early: RecursionError")
        assert reader.start(stick / "stick")
        reader.stop(timeout=30)

    def test_one_folder_at_a_time(
        self, client: Home, services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        hold: Future[Any] = Future()
        (tmp_path / "stick" / "a.png").write_bytes(png(1, 2))
        asked: list[Source] = []
        monkeypatch.setattr(services.reader, "_submit", lambda source: (asked.append(source), hold)[1])
        assert services.reader.start(tmp_path / "stick")
        assert not services.reader.start(tmp_path / "stick")
        wait_for(lambda: asked)
        hold.set_exception(EdgeCTError("no room"))
        wait_for(lambda: services.reader.state and not services.reader.state.running)
        assert services.reader.state is not None
        assert services.reader.state.message == "no room"


class TestEvents:
    def test_listeners_hear_and_are_counted(self) -> None:
        events = Events(max_listeners=2)
        one, two = events.listen(), events.listen()
        assert one is not None
        assert two is not None
        assert events.listen() is None
        assert next(one).startswith(b"retry:")
        events.send("state", {"version": 3})
        assert next(one) == b'event: state\ndata: {"version":3}\n\n'
        two.close()  # type: ignore[attr-defined]
        assert events.listen() is not None
        events.close()
        with pytest.raises(StopIteration):
            next(one)
        assert events.listen() is None

    def test_a_slow_listener_costs_no_memory_and_hears_the_latest(self) -> None:
        events = Events()
        stream = events.listen()
        assert stream is not None
        for i in range(1000):
            events.send("state", i)
        next(stream)
        heard = [next(stream) for _ in range(64)]
        assert heard[-1] == b"event: state\ndata: 999\n\n"

    def test_the_page_is_told_of_rows_that_others_add(self, services: Services) -> None:
        stream = services.events.listen()
        assert stream is not None
        next(stream)
        services.submit("a.png", lambda: png(1, 2)).result(60)
        version = services.worklist.version()
        heard = b""
        while b'"version":%d' % version not in heard:
            heard = next(stream)


class TestDrawing:
    def test_a_layer_is_clear_where_there_is_no_evidence(self) -> None:
        heat = Heat(np.array([[-4, -4], [-4, 6]], np.float32), "class map")
        image = cv2.imdecode(np.frombuffer(slice_pictures.draw_layer(png(1, 2), heat), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (96, 96, 4)
        assert image[0, 0, 3] == 0
        assert image[-1, -1, 3] == 255
        blue, green, red = (int(value) for value in image[-1, -1, :3])
        assert red > 200 > blue
        assert green > 200

    def test_a_layer_keeps_the_slices_proportions(self) -> None:
        tall = cv2.imencode(".png", np.zeros((1024, 512), np.uint8))[1].tobytes()
        heat = Heat(np.zeros((3, 3), np.float32), "class map")
        image = cv2.imdecode(np.frombuffer(slice_pictures.draw_layer(tall, heat), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image.shape == (512, 256, 4)

    def test_without_evidence_an_overlay_is_the_slice(self) -> None:
        heat = Heat(np.full((3, 3), -2, np.float32), "class map")
        image = cv2.imdecode(
            np.frombuffer(slice_pictures.draw_overlay(png(1, 2), heat), np.uint8), cv2.IMREAD_UNCHANGED
        )
        grey = cv2.imdecode(np.frombuffer(png(1, 2), np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(image, np.dstack([grey] * 3))

    def test_print_outlines_a_lesion(self) -> None:
        """A print in grey hardly shows the colours of the map: its outline runs where the evidence changes its sign."""
        evidence = np.full((4, 4), -9, np.float32)
        evidence[:, 2:] = 9
        black = cv2.imencode(".png", np.zeros((512, 512), np.uint8))[1].tobytes()
        drawn = slice_pictures.draw_overlay(black, Heat(evidence, "lesion map"))
        image = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_UNCHANGED)
        yellow = np.argwhere((image[256] == (60, 220, 255)).all(axis=1))[:, 0]
        assert len(yellow) and abs(yellow.min() - 256) <= 3  # The other side of the outline is the frame.

    def test_a_damaged_picture_is_said_to_be_one(self) -> None:
        with pytest.raises(EdgeCTError, match="damaged"):
            slice_pictures.draw_thumbnail(b"nothing")


class TestHealth:
    def test_this_machine(self, worklist: Worklist, tiny_bundle: Path) -> None:
        manifest = read_bundle(tiny_bundle).manifest
        now = health.read_health(worklist, manifest)
        assert 0 < now.disk_free <= now.disk_total
        assert now.memory is None or now.memory > 10 << 20
        assert now.clock == "good"
        assert set(now.statuses()) == {"disk", "clock", "memory", "temperature", "load"}
        past = datetime(1970, 1, 1, tzinfo=timezone.utc)
        assert health.read_health(worklist, manifest, now=past).clock == "failure"
        worklist.folder = worklist.folder / "gone"
        assert health.read_health(worklist, manifest).statuses()["disk"] == "failure"

    def test_limits(self) -> None:
        bad = health.Health(85.0, 1 << 20, 1 << 30, 1 << 20, 100 << 20, 17.0, 2, "warning").statuses()
        assert bad == {
            "disk": "failure",
            "temperature": "failure",
            "load": "warning",
            "clock": "warning",
            "memory": "warning",
        }
        assert list(bad.values()) == ["failure"] * 2 + ["warning"] * 3
        good = health.Health(None, 1 << 33, 1 << 34, None, 1 << 30, 3.9, 2, "good").statuses()
        assert set(good.values()) == {"good"}
        assert health.Health(None, 1 << 33, 1 << 34, None, 1 << 30, 4.0, 2, "good").statuses()["load"] == "warning"
