"""From options to a running server, and to a shutdown that loses nothing."""

from __future__ import annotations

import logging
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_ct.bundle import Bundle
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError
from edge_ct.trust.opening import open_bundle

from ..judging.judge import Judge
from ..judging.pool import open_judge
from ..worklist.worklist import Worklist
from .pin import PIN_FILE, PinGate, set_up_pin
from .request_checks import allowed_hosts
from .services import Services

_SIOCGIFADDR = 0x8915
DRAIN_SECONDS = 20.0
_HUNG_SECONDS = 20.0


@dataclass(frozen=True)
class ServeOptions:
    """Options of `edge-ct serve`.

    Attributes:
        model: Path or shipped name of the bundle; None is the default shipped bundle.
        state: Folder of the worklist.
        port: TCP port; 0 chooses a free one.
        lan: Serve other machines, behind a PIN.
        pin: The PIN; None uses that of an earlier start, or a new one.
        names: Further host names that the server answers to.
        roots: Folders that the page offers to read.
        workers: Number of threads that judge.
        keep_days: Days after which results are deleted; None keeps them.
        language: Language for browsers that ask for none of those supported.
        key: Public key that the bundle must be signed with; None demands the pinned key, if there is one.
        engine: The program that computes the network.
        delete_unreviewed: Delete old results that nobody has reviewed as well.
    """

    model: Path | str | None
    state: Path
    port: int = 8042
    lan: bool = False
    pin: str | None = None
    names: Sequence[str] = ()
    roots: Sequence[Path] = ()
    workers: int = 2
    keep_days: int | None = None
    language: str = "en"
    key: Path | None = None
    engine: EngineName = DEFAULT_ENGINE
    delete_unreviewed: bool = False


def open_server(options: ServeOptions) -> Server:
    """Open the worklist, bind the port and start to load the model.

    Raises:
        EdgeCTError: The worklist, the port, the PIN or a folder cannot be used.
        ModelRejected: The bundle cannot be read.
    """
    bundle = open_bundle(options.model, options.key, options.state)
    # First of all: worker processes are forked before files and sockets are opened.
    judge = open_judge(bundle, options.workers, engine=options.engine)
    try:
        return _open_server(options, bundle, judge)
    except BaseException:
        judge.close()
        raise


def _open_server(options: ServeOptions, bundle: Bundle, judge: Judge) -> Server:
    worklist = Worklist(options.state)
    bound = bind(options.port, options.lan)
    port = bound.getsockname()[1]
    gate, new_pin = None, None
    if options.lan:
        digest, new_pin = set_up_pin(worklist.folder / PIN_FILE, options.pin)
        gate = PinGate(digest)
    services = Services(
        bundle,
        worklist,
        allowed_hosts(port, options.lan, options.names),
        roots=options.roots,
        gate=gate,
        workers=options.workers,
        language=options.language,
        keep_days=options.keep_days,
        delete_unreviewed=options.delete_unreviewed,
        judge=judge,
    )
    # The bundle is loaded while Flask is being imported.
    services.open()
    hosts = ["127.0.0.1", *(addresses() if options.lan else [])]
    # A PIN that was given is known to whoever gave it.
    return Server(services, bound, hosts, None if options.pin is not None else new_pin)


def bind(port: int, lan: bool) -> socket.socket:
    """Return a socket bound to loopback, or with `lan` to all addresses of this machine.

    Raises:
        EdgeCTError: The port cannot be bound.
    """
    address = "0.0.0.0" if lan else "127.0.0.1"
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise EdgeCTError(f"cannot listen on {address}:{port}: {error.strerror}; name another --port") from error
    return bound


def addresses() -> list[str]:
    """Return the IPv4 addresses of this machine without loopback, as the kernel knows them: no packet is sent."""
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):  # The interface has no address.
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


class Server:
    """The HTTP server on a bound socket."""

    def __init__(
        self, services: Services, bound: socket.socket, hosts: Sequence[str] = (), new_pin: str | None = None
    ) -> None:
        """Prepare the server.

        Args:
            services: The services behind the page.
            bound: The socket to serve on.
            hosts: Addresses under which the page can be reached.
            new_pin: A PIN that was made for this start and must be shown.
        """
        from .app import create_app
        from .body_admission import BodyAdmission
        from .http_front import HttpFront

        self.services, self.new_pin = services, new_pin
        self.urls = [f"http://{host}:{bound.getsockname()[1]}/" for host in hosts]
        self._stopping = False
        logging.getLogger("waitress").setLevel(
            logging.CRITICAL
        )  # It warns of queued requests; uploads queue by design.
        self._front = HttpFront(create_app(services), bound, BodyAdmission(services), services.streams)

    def run(self, ready: Callable[[], None]) -> bool:
        """Serve until SIGTERM or SIGINT, then answer what was accepted.

        Args:
            ready: Called once slices can be judged.

        Returns:
            True if everything was finished in time.

        Raises:
            Exception: Whatever loading the model raised.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        threading.Thread(target=self._wait_for_model, args=(ready,), name="ready", daemon=True).start()
        while not self._stopping:
            self._front.turn(1.0)
        if self.services.queue.error:
            raise self.services.queue.error
        return self._drain()

    def is_healthy(self) -> bool:
        """Return whether requests are served, and workers can be replaced."""
        return self._front.seconds_behind() < _HUNG_SECONDS and not self.services.queue.judge.broken

    def _wait_for_model(self, ready: Callable[[], None]) -> None:
        try:
            self.services.queue.wait()
            ready()
        except Exception:
            self._stop()

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._front.pull_trigger()

    def _drain(self) -> bool:
        """Accept no further connection, answer all requests, and finish what is queued."""
        self._front.stop_accepting()
        self.services.end_streams()
        end = time.monotonic() + DRAIN_SECONDS
        while self._front.is_answering and time.monotonic() < end:
            self._front.turn(0.1)
        done = not self._front.is_answering
        self._front.end_threads()
        return self.services.close(max(1.0, end - time.monotonic())) and done
