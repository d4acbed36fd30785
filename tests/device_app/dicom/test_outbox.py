"""Sending: at least once, through restarts; and who the peers are."""

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from edge_ct.device_app.dicom.peers import Peer, is_allowed, parse_networks, tls_context
from edge_ct.device_app.dicom.receive.listener import Listener, ListenerOptions
from edge_ct.device_app.dicom.receive.spool import Arrival, Spool
from edge_ct.device_app.dicom.send.outbox import Courier, Outbox, Parcel, SendResult, read_parcel
from edge_ct.device_app.dicom.send.targets import StoreTarget, WebTarget
from edge_ct.device_app.worklist.queue import OUTGOING
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError

from .conftest import Receiver, store
from .processes import Orthanc, wait_for

MakeCT = Callable[..., bytes]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # Debian's place


@pytest.fixture
def worklist(tmp_path: Path) -> Iterator[Worklist]:
    with Worklist(tmp_path / "state", min_free=0) as own:
        yield own


@pytest.fixture
def parcels(tmp_path: Path, make_ct: MakeCT) -> list[Parcel]:
    made = []
    for index in range(3):
        (tmp_path / f"{index}.dcm").write_bytes(make_ct(index))
        made.append(read_parcel(tmp_path / f"{index}.dcm"))
    return made


def target(receiver: Receiver) -> StoreTarget:
    return StoreTarget(Peer("PACS", "127.0.0.1", receiver.port), timeout=30)


class Script:
    """A target that answers as it was told."""

    def __init__(self, *answers: list[SendResult]) -> None:
        self.answers, self.calls = list(answers), 0

    def __str__(self) -> str:
        return "script"

    def send(self, parcels: Sequence[Parcel]) -> list[SendResult]:
        self.calls += 1
        return self.answers.pop(0)[: len(parcels)] if self.answers else [SendResult()] * len(parcels)


def test_delivered_once_and_put_once(worklist: Worklist, receiver: Receiver, parcels: list[Parcel]) -> None:
    outbox, to = Outbox(worklist), target(receiver)
    assert [outbox.put(own, str(to)) for own in parcels] == [True] * 3
    assert [outbox.put(own, str(to)) for own in parcels] == [False] * 3
    assert outbox.deliver(to) == (3, 0)
    assert outbox.deliver(to) == (0, 0)
    assert [one.SOPInstanceUID for one in receiver.objects] == [own.instance for own in parcels]


def test_what_is_not_taken_waits_for_its_turn(worklist: Worklist, parcels: list[Parcel]) -> None:
    outbox = Outbox(worklist)
    away = [SendResult("nobody there")] * 3
    script = Script(away, away, away)
    for own in parcels:
        outbox.put(own, "script")
    for _ in range(3):
        assert outbox.deliver(script) == (0, 3)
        assert outbox.deliver(script) == (0, 0)  # not yet
        outbox.retry_now()
    assert worklist.queue(OUTGOING).items()[0].error == "nobody there"
    assert script.calls == 3
    assert outbox.deliver(script) == (3, 0)
    assert outbox.counts() == {"waiting": 0, "done": 3, "failed": 0}


def test_what_the_receiver_refuses_is_given_up(
    worklist: Worklist, parcels: list[Parcel], caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(worklist)
    outbox.put(parcels[0], "script")
    for _ in range(5):
        outbox.deliver(Script([SendResult("status C000", refused=True)]))
        with worklist._store.writing() as connection:
            connection.execute("UPDATE queue SET next_try = 0 WHERE state = 'waiting'")
    assert outbox.counts() == {"waiting": 0, "done": 0, "failed": 1}
    assert "given up" in caplog.text
    outbox.retry_now()
    assert outbox.deliver(Script()) == (1, 0)


def test_one_refused_object_holds_up_no_other(worklist: Worklist, receiver: Receiver, parcels: list[Parcel]) -> None:
    receiver.statuses = [0, 0xC000, 0]
    outbox, to = Outbox(worklist), target(receiver)
    for own in parcels:
        outbox.put(own, str(to))
    assert outbox.deliver(to) == (2, 1)
    assert outbox.counts()["waiting"] == 1


def test_warnings_and_held_already_count_as_taken(receiver: Receiver, parcels: list[Parcel]) -> None:
    receiver.statuses = [0xB000, 0x0111, 0xA700]
    answers = target(receiver).send(parcels)
    assert [own.error is None for own in answers] == [True, True, False]
    assert not answers[2].refused  # out of resources passes


def test_it_survives_a_restart(tmp_path: Path, receiver: Receiver, parcels: list[Parcel]) -> None:
    with Worklist(tmp_path / "other", min_free=0) as worklist:
        Outbox(worklist).put(parcels[0], str(target(receiver)))
    with Worklist(tmp_path / "other", min_free=0) as worklist:
        assert Outbox(worklist).targets() == [str(target(receiver))]
        assert Outbox(worklist).deliver(target(receiver)) == (1, 0)


def test_nobody_there_and_a_file_that_is_gone(
    parcels: list[Parcel], receiver: Receiver, free_ports: Callable[[int], list[int]]
) -> None:
    (port,) = free_ports(1)
    answers = StoreTarget(Peer("PACS", "127.0.0.1", port), timeout=5).send(parcels)
    assert {own.error for own in answers} == {f"PACS@127.0.0.1:{port} does not answer"}
    refusing = StoreTarget(Peer("OTHER", "127.0.0.1", receiver.port)).send(parcels)
    assert all("refuses the association" in str(own.error) and not own.refused for own in refusing)
    Path(parcels[0].file).unlink()
    gone, *others = target(receiver).send(parcels)
    assert gone.refused
    assert [own.error for own in others] == [None, None]


def test_a_courier_delivers_when_it_is_woken(worklist: Worklist, receiver: Receiver, parcels: list[Parcel]) -> None:
    outbox, to = Outbox(worklist), target(receiver)
    courier = Courier(outbox, to, every=3600)
    courier.start()
    outbox.put(parcels[0], str(to))
    courier.wake()
    wait_for(lambda: len(receiver.objects) == 1)
    courier.stop()
    courier.join(30)
    assert not courier.is_alive()


@pytest.mark.skipif(
    not (PLUGIN.exists() and shutil.which("Orthanc")),
    reason="orthanc-dicomweb is not installed (apt-get install orthanc-dicomweb)",
)
@pytest.mark.slow
def test_stow_rs_to_orthanc(tmp_path: Path, parcels: list[Parcel], free_ports: Callable[[int], list[int]]) -> None:
    dicom, http = free_ports(2)
    orthanc = Orthanc(tmp_path / "orthanc", dicom, http, {}, [str(PLUGIN)])
    web = WebTarget.parse(f"http://127.0.0.1:{http}/dicom-web/")
    try:
        assert web.send(parcels) == [SendResult()] * 3
        assert web.send(parcels) == [SendResult()] * 3  # twice is once there
        held = {
            orthanc.get(f"/instances/{one}")["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.get("/instances")
        }
        assert held == {own.instance for own in parcels}
    finally:
        orthanc.stop()
    assert all("cannot be reached" in str(own.error) and not own.refused for own in web.send(parcels))


@pytest.mark.parametrize("text", ["PACS@10.0.0.1:104", "PACS@[::1]:11112", "MY PACS@host.example:1"])
def test_peers(text: str) -> None:
    assert str(Peer.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["PACS", "PACS@host", "@host:1", "PACS@host:0", "PACS@host:70000", "PACS@host:x", "A" * 17 + "@h:1", "A\\B@h:1"],
)
def test_what_is_no_peer(text: str) -> None:
    with pytest.raises(ValueError, match=r"AET|AE title"):
        Peer.parse(text)


@pytest.mark.parametrize("url", ["ftp://host/x", "host", "https://user:secret@host/x"])
def test_what_is_no_web_target(url: str) -> None:
    with pytest.raises(ValueError, match="without a password"):
        WebTarget.parse(url)


def test_addresses() -> None:
    among = parse_networks(["192.168.7.0/24", "10.1.2.3", "fd00::/8"])
    assert is_allowed("192.168.7.200", among)
    assert is_allowed("::ffff:10.1.2.3", among)
    assert is_allowed("fd00::1%eth0", among)
    assert not is_allowed("192.168.8.1", among)
    assert not is_allowed("nonsense", among)
    assert is_allowed("192.0.2.1", [])


# TLS.


def certificates(folder: Path, name: str, authority: Path | None = None) -> tuple[Path, Path]:
    """A certificate and its key by OpenSSL, signed by itself or an authority."""
    folder.mkdir(exist_ok=True)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate]
    if authority:
        command += ["-CA", authority, "-CAkey", authority.with_suffix(".key"), "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_mutual_tls(worklist: Worklist, tmp_path: Path, parcels: list[Parcel], make_ct: MakeCT) -> None:
    folder = tmp_path / "pki"
    authority, _ = certificates(folder, "authority")
    stranger, stranger_key = certificates(folder, "stranger")
    server, client = (
        tls_context(*certificates(folder, name, authority), authority, name == "device")
        for name in ("device", "scanner")
    )
    arrived: list[Arrival] = []
    spool = Spool(tmp_path / "spool", worklist, min_free=0)
    listener = Listener(spool, arrived.append, ListenerOptions(port=0, context=server, timeout=20))
    here = Peer("EDGECT", "127.0.0.1", listener.port)
    try:
        assert StoreTarget(here, context=client).send(parcels[:2]) == [SendResult(), SendResult()]
        unknown = tls_context(stranger, stranger_key, authority, server=False)
        assert all(own.error for own in StoreTarget(here, context=unknown, timeout=10).send(parcels[2:]))
        assert store(listener.port, [make_ct(5)]) == [-1]  # without TLS
        assert StoreTarget(here, context=client).send(parcels[2:]) == [SendResult()]
    finally:
        listener.stop()
    assert len(arrived) == 3
    assert server.verify_mode == ssl.CERT_REQUIRED
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(EdgeCTError, match="cannot be used"):
        tls_context(tmp_path / "x", tmp_path / "x", tmp_path / "x", server=True)
