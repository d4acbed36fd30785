"""Limits and deadlines of connections, so that no peer and no address can hold all associations.

A connection is in one of these phases; each but `handling` has a deadline:

    request   connected, and no association was accepted yet
    idle      an association without a message
    message   a message is arriving, at 64 KiB a second or more
    handling  a message is complete, and this device works on its answer

When the maximum number of associations is reached, one that is idle, or whose message arrives more slowly, is ended for
a newcomer. One more association is kept for an address that has none.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("edge_ct.listen")
_PENDING, _PENDING_AT_ADDRESS = 32, 16
_RATE = 64 << 10  # bytes a second
_REQUEST_SECONDS = 10.0
_MESSAGE_SECONDS = 30.0  # beside what the bytes of the message take at this rate
# An association that has been idle, or behind the rate, for so long is ended for a newcomer, which waits for that.
_EVICT_SECONDS = 0.5
_WAIT_SECONDS = 1.5
# Complete messages that wait to be handled, of one association; then nothing more is received.
_MAX_WAITING = 4
# A-ABORT of the service provider (PS3.8, 9.3.8).
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))


@dataclass(eq=False)
class _ConnectionState:
    """One connection: its phase, since when, and the bytes that it has received in this phase."""

    socket: Any
    address: str
    since: float
    phase: str = "request"
    bytes: int = 0
    claimed: bool = False

    def enter(self, phase: str, now: float) -> None:
        self.phase, self.since, self.bytes = phase, now, 0

    def slowness(self, now: float) -> float:
        """Return by how many seconds the phase has lasted longer than its bytes take."""
        return 0.0 if self.phase == "handling" else now - self.since - self.bytes / _RATE

    def is_late(self, now: float, idle_seconds: float) -> bool:
        limits = {"request": _REQUEST_SECONDS, "idle": idle_seconds, "message": _MESSAGE_SECONDS}
        return self.phase in limits and self.slowness(now) > limits[self.phase]

    def end(self) -> None:
        """Abort the association and close its connection; its threads notice that."""
        if not isinstance(self.socket, ssl.SSLSocket):
            with suppress(OSError):
                self.socket.send(_ABORT, socket.MSG_DONTWAIT)
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class ConnectionLimits:
    """The connections of one server, and the limits that they keep."""

    def __init__(self, associations: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without connections.

        Args:
            associations: Maximum number of simultaneous associations; one more is kept for an address that has none.
            idle_seconds: Seconds that an association may be idle.
            clock: Returns seconds.
        """
        self._associations, self._idle_seconds, self._clock = associations, idle_seconds, clock
        self._connections: dict[Any, _ConnectionState] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._end_late, name="associations", daemon=True).start()

    def stop(self) -> None:
        """End the thread that ends connections whose deadline has passed."""
        self._stopped.set()

    def connect(self, connection: Any, address: str) -> None:
        """Take a new connection; of those without an association, the slowest is ended if there are too many."""
        now = self._clock()
        with self._lock:
            pending = [state for state in self._connections.values() if not state.claimed]
            same = [state for state in pending if state.address == address]
            self._connections[connection] = _ConnectionState(connection, address, now)
        full = same if len(same) >= _PENDING_AT_ADDRESS else pending if len(pending) >= _PENDING else []
        if full:
            self._end(max(full, key=lambda state: state.slowness(now)))

    def disconnect(self, connection: Any) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._connections.pop(connection, None)

    def claim(self, connection: Any) -> bool:
        """Count an association in, waiting a moment if the maximum is reached; False if it stays reached."""
        end = self._clock() + _WAIT_SECONDS
        while (state := self._connections.get(connection)) is not None:
            if self._claim_now(state):
                return True
            if self._clock() > end:
                return False
            time.sleep(0.05)
        return False

    def accepted(self, connection: Any) -> None:
        """Note that an association was accepted, or that a message was handled; not every message has an answer."""
        self._enter(connection, "idle")

    def received(self, connection: Any) -> None:
        """Note that a complete message is being handled."""
        self._enter(connection, "handling")

    def abort(self, connection: Any) -> None:
        """Abort the association of a connection."""
        with self._lock:
            state = self._connections.get(connection)
        if state is not None:
            self._end(state)

    def count(self, connection: Any, size: int) -> bool:
        """Note that bytes have arrived; False if the connection was ended."""
        state = self._connections.get(connection)
        if state is None:
            return False
        if state.phase == "idle":
            state.enter("message", self._clock())
        state.bytes += size
        return True

    def _claim_now(self, state: _ConnectionState) -> bool:
        now = self._clock()
        with self._lock:
            others = [other for other in self._connections.values() if other.claimed and other.socket.fileno() >= 0]
            same = [other for other in others if other.address == state.address]
            # The association beyond the limit is for an address that has none.
            if len(others) < self._associations + (not same):
                state.claimed = True
                return True
            victim = max(same or others, key=lambda other: other.slowness(now))
            if victim.slowness(now) < _EVICT_SECONDS:
                return False
            self._connections.pop(victim.socket, None)
            state.claimed = True
        LOG.warning("association from %s ended for one from %s: all places are taken", victim.address, state.address)
        victim.end()
        return True

    def _enter(self, connection: Any, phase: str) -> None:
        state = self._connections.get(connection)
        if state is not None:
            state.enter(phase, self._clock())

    def _end(self, state: _ConnectionState) -> None:
        self.disconnect(state.socket)
        state.end()

    def _end_late(self) -> None:
        """End connections whose deadline has passed, and forget those that are closed."""
        while not self._stopped.wait(0.5):
            now = self._clock()
            with self._lock:
                states = list(self._connections.values())
            for state in states:
                if state.is_late(now, self._idle_seconds):
                    LOG.warning("connection from %s ended: its %s takes too long", state.address, state.phase)
                    self._end(state)
                elif state.socket.fileno() < 0:
                    self.disconnect(state.socket)


def receive_within_limits(association: Any, limits: ConnectionLimits, max_size: int) -> None:
    """Count what an association receives, let it receive no more than can be handled, and end it on malformed messages.

    Args:
        association: An association that was just connected.
        limits: The limits of its server.
        max_size: Maximum size in bytes of what the peer may announce at once.
    """
    transport = association.dul.socket
    connection, waiting = transport.socket, association.dimse.msg_queue

    def receive(size: int) -> bytearray:
        if size > max_size:
            raise OSError(f"a PDU of {size} bytes; {max_size} were negotiated")
        while waiting.qsize() >= _MAX_WAITING and connection.fileno() >= 0:
            time.sleep(0.01)
        content = bytearray(size)
        view, position = memoryview(content), 0
        while position < size:
            count = connection.recv_into(view[position:])
            # What a peer goes on to send after its end is not read, and its connection is closed.
            if not count or not limits.count(connection, count):
                return content[:position]
            position += count
        return content

    transport.recv = receive

    def end_on_error(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                # pynetdicom would end this thread, and leave association, connection and the other thread as they are.
                # It ends them in this way where reading a PDU fails.
                LOG.warning("association ended: malformed message (%s)", type(error).__name__)
                limits.abort(connection)
                association.is_aborted, association.is_established = True, False
                association._kill = association.dul._kill_thread = True
                connection.close()
                stop_waiting_for_request(association)

        return call

    serve_request = association._serve_request

    def serve(*arguments: Any) -> None:
        limits.received(connection)
        try:
            serve_request(*arguments)
        finally:
            limits.accepted(connection)

    # The first is called by the thread that receives, the others by that of the association.
    machine, negotiation = association.dul.state_machine, association.acse
    machine.do_action = end_on_error(machine.do_action)
    negotiation.negotiate_association = end_on_error(negotiation.negotiate_association)
    association._serve_request = end_on_error(serve)


def stop_waiting_for_request(association: Any) -> None:
    """End the thread of an association whose connection has ended; pynetdicom lets it wait on for a request."""
    if association.requestor.primitive is None:
        association.dul.to_user_queue.put(None)


def server_class(limits: ConnectionLimits) -> type:
    """Return the class of a server whose connections keep these limits."""
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        socket: Any
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> Any:
            """Accept a connection; TLS is negotiated in the thread of the connection."""
            connection, address = self.socket.accept()
            if self.ssl_context:
                connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def verify_request(self, connection: Any, address: Any) -> bool:
            limits.connect(connection, str(address[0]))
            return True

        def finish_request(self, connection: Any, address: Any) -> None:
            # The threads of an association poll, so a connection gets them when its peer has sent something.
            connection.settimeout(_REQUEST_SECONDS)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            elif not connection.recv(1, socket.MSG_PEEK):
                raise ConnectionError("closed without a request")
            connection.settimeout(None)
            super().finish_request(connection, address)

        def shutdown_request(self, connection: Any) -> None:
            limits.disconnect(connection)
            super().shutdown_request(connection)

        def handle_error(self, connection: Any, address: Any) -> None:
            """A peer that sends nothing, or no TLS, deserves no traceback."""

    return Server
