"""Idle, slow and greedy peers over the loopback network: whoever behaves is served all the same."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from edge_ct.device_app.dicom.receive import connection_limits
from edge_ct.device_app.dicom.receive.listener import Listener

from .conftest import store

MakeCT = Callable[..., bytes]
Start = Callable[..., Listener]
PDU_SIZE = 16_000


def test_too_many_associations(start: Start, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    """All of which are busy; a place is kept for an address that has none."""
    own = start(associations=1)
    with _message_that_arrives(own.port):
        assert store(own.port, [make_ct()]) == [-1]
        assert "refused: too many associations" in caplog.text
        assert store(own.port, [make_ct()], bind_address=("127.0.0.2", 0)) == [0]
    assert store(own.port, [make_ct()]) == [0]


def associate(port: int, title: str = "SCANNER", source: str = "127.0.0.1") -> Any:
    from pynetdicom import AE

    entity = AE(ae_title=title)
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2")
    return entity.associate("127.0.0.1", port, ae_title="EDGECT", bind_address=(source, 0))


def raw_association(port: int, source: str = "127.0.0.1") -> socket.socket:
    """An association by hand: the socket, once it is accepted."""
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import (
        A_ASSOCIATE,
        ImplementationClassUIDNotification,
        MaximumLengthNotification,
    )
    from pynetdicom.presentation import build_context

    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "SCANNER", "EDGECT"
    context = build_context("1.2.840.10008.5.1.4.1.1.2")
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16382, "1.2.3"
    request.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    connection = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
    connection.sendall(pdu.encode())
    assert connection.recv(1) == b"\x02"
    connection.recv(10_000)
    return connection


def data_pdu(content: bytes, command: bool = False, last: bool = False) -> bytes:
    """A P-DATA-TF PDU (PS3.8, 9.3.5) of one presentation data value."""
    value = struct.pack(">BB", 1, command | last << 1) + content
    return struct.pack(">BBIL", 4, 0, len(value) + 4, len(value)) + value


@contextmanager
def _message_that_arrives(port: int) -> Iterator[None]:
    """An association whose message arrives at some hundred kilobytes a second, without an end."""
    connection, stop = raw_association(port), threading.Event()

    def send() -> None:
        while not stop.wait(0.05):
            connection.sendall(data_pdu(bytes(PDU_SIZE)))

    thread = threading.Thread(target=send)
    thread.start()
    yield
    stop.set()
    thread.join()
    connection.close()


def is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(1000):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_idle_associations_keep_nobody_waiting(start: Start, make_ct: MakeCT) -> None:
    own = start()
    idle = [associate(own.port) for _ in range(11)]
    for source in ("127.0.0.1", "127.0.0.2"):
        begun = time.monotonic()
        assert store(own.port, [make_ct()], bind_address=(source, 0)) == [0]
        assert time.monotonic() - begun < 2
    ended = sum(not one.is_established for one in idle)
    assert 1 <= ended <= 3
    for one in idle:
        one.abort()


def test_silent_and_dripping_connections_keep_nobody_waiting(start: Start, make_ct: MakeCT) -> None:
    own = start()
    silent = [socket.create_connection(("127.0.0.1", own.port), timeout=10) for _ in range(100)]
    dripping = [raw_association(own.port) for _ in range(10)]
    for connection in dripping:
        connection.sendall(data_pdu(bytes(PDU_SIZE))[:5000])
    time.sleep(0.6)
    begun = time.monotonic()
    assert store(own.port, [make_ct()]) == [0]
    assert time.monotonic() - begun < 2
    assert threading.active_count() < 150
    for connection in (*silent, *dripping):
        connection.close()


def test_a_long_command_aborts_the_association(start: Start, make_ct: MakeCT, caplog: pytest.LogCaptureFixture) -> None:
    own = start()
    with raw_association(own.port) as connection:
        with suppress(OSError):
            for _ in range(1000):
                connection.sendall(data_pdu(bytes(PDU_SIZE), command=True))
        assert is_closed(connection, 5)
    assert "a command is too long" in caplog.text
    assert store(own.port, [make_ct()]) == [0]


def test_a_flood_of_commands_is_read_no_faster_than_it_is_answered(start: Start, make_ct: MakeCT) -> None:
    """Small commands, of which none is waited for."""
    own = start()
    echo = bytes.fromhex("00000000040000003800000000000200120000003132")  # group length and a beginning of a UID
    with raw_association(own.port) as connection, suppress(OSError):
        for _ in range(5000):
            connection.sendall(data_pdu(echo, command=True, last=True))
    assert store(own.port, [make_ct()]) == [0]


def test_every_phase_of_a_connection_has_a_deadline(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_REQUEST_SECONDS", "_MESSAGE_SECONDS"):
        monkeypatch.setattr(connection_limits, name, 1.0)
    own = start(timeout=1.0)
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x01")
        assert is_closed(connection, 5)
    with raw_association(own.port) as connection:
        assert is_closed(connection, 5)
    own = start()
    with raw_association(own.port) as connection:
        for byte in data_pdu(bytes(100)):
            with suppress(OSError):
                connection.sendall(bytes((byte,)))
            if is_closed(connection, 0.1):
                break
        else:
            raise AssertionError("a message may take any time")
    assert "its message takes too long" in caplog.text
    with raw_association(own.port) as connection:  # longer than the deadline, and faster than the rate
        for _ in range(30):
            connection.sendall(data_pdu(bytes(PDU_SIZE)))
            time.sleep(0.1)
        assert not is_closed(connection, 0.1)


def test_associations_of_one_address_are_ended_for_their_own_newcomers(start: Start) -> None:
    own = start(associations=3)
    others = [associate(own.port, source="127.0.0.5") for _ in range(2)]
    greedy = [associate(own.port, source="127.0.0.6") for _ in range(8)]
    assert sum(one.is_established for one in others) >= 1
    time.sleep(0.3)
    assert sum(one.is_established for one in (*others, *greedy)) <= 4
    for one in (*others, *greedy):
        one.abort()


def _request(*, syntaxes: tuple[bytes, ...] = (b"1.2.840.10008.1.2",), title: bytes = b"SCANNER") -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8, 9.3.2) of a context for Verification."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = bytes(3) + item(0x30, b"1.2.840.10008.1.1") + b"".join(item(0x40, syntax) for syntax in syntaxes)
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3")
    content = struct.pack(">HH", 1, 0) + b"EDGECT".ljust(16) + title.ljust(16) + bytes(32)
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\1" + context) + item(0x50, user)
    return struct.pack(">BBL", 1, 0, len(content)) + content


def _command(field: int, *elements: tuple[int, bytes]) -> bytes:
    """A command set (PS3.7, 6.3) in a PDU, without an answer that its peer could expect in every case."""
    known = [(0x100, struct.pack("<H", field)), (0x110, struct.pack("<H", 1)), (0x800, struct.pack("<H", 0x101))]
    content = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted((*known, *elements)))
    return data_pdu(struct.pack("<HHLL", 0, 0, 4, len(content)) + content, command=True, last=True)


MALFORMED = {
    "no transfer syntax": (_request(syntaxes=()),),
    "no calling title": (_request(title=b""),),
    "no AE title at all": (_request(title=b"\0"),),
    "a command of no kind": (_request(), _command(0x7777)),
    "a command without a kind": (_request(), data_pdu(struct.pack("<HHLL", 0, 0, 4, 0), command=True, last=True)),
    "an action of no class": (_request(), _command(0x130, (0x3, b"1.2.3.4\0"), (0x1001, b"1.2\0"), (0x1008, b"\1\0"))),
    "half a request": (_request()[:90],),
}


@pytest.mark.parametrize("messages", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_leaves_neither_threads_nor_places(
    start: Start, make_ct: MakeCT, messages: tuple[bytes, ...]
) -> None:
    own = start(associations=2)
    assert store(own.port, [make_ct()]) == [0]
    before = threading.active_count()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", own.port), timeout=30) as connection:
            for message in messages:
                connection.sendall(message)
                if message is not messages[-1]:
                    assert connection.recv(1000)[:1] == b"\x02"
            if messages[-1] in (MALFORMED["half a request"][0],):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue  # its connection is reset
            with suppress(ConnectionError):
                while connection.recv(1000):
                    pass
    end = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.1)
    assert threading.active_count() <= before
    assert store(own.port, [make_ct()]) == [0]


UNANSWERED = {
    "C-STORE without a UID": _command(1, (0x2, b"1.2.840.10008.1.1\0"), (0x700, b"\0\0")),
    "C-CANCEL": _command(0xFFF, (0x120, b"\1\0")),
    "an answer": _command(0x8030, (0x120, b"\1\0"), (0x900, b"\0\0")),
}


@pytest.mark.parametrize("message", UNANSWERED.values(), ids=UNANSWERED)
def test_associations_whose_message_has_no_answer_keep_nobody_waiting(
    start: Start, make_ct: MakeCT, message: bytes
) -> None:
    own = start(associations=3)
    held = []
    try:
        for _ in range(6):
            connection = socket.create_connection(("127.0.0.1", own.port), timeout=30)
            held.append(connection)
            connection.sendall(_request())
            assert connection.recv(1000)[:1] == b"\x02"
            connection.sendall(message)
        time.sleep(connection_limits._EVICT_SECONDS)
        begun = time.monotonic()
        assert store(own.port, [make_ct()]) == [0]
        assert time.monotonic() - begun < 10  # a thread may wait for a processor
    finally:
        for connection in held:
            connection.close()
