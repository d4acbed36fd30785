"""A process without threads that loads a bundle once and forks workers, which share its memory.

A worker that decodes foreign files may end at any time, and its successor must start within milliseconds, from a
process that has no threads and holds no locks. The commands have threads; this process has none.

The control socket carries one request and one answer at a time: `fork` with the descriptor of the worker's connection
is answered with the process id, `status` with the exit status of an ended worker.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from edge_ct.errors import EdgeCTError, ModelRejected

# Serves one connection until the other end closes it.
Serve = Callable[[socket.socket], None]

_LOAD_SECONDS = 60.0  # of processor time
_LOAD_PATIENCE = 180.0  # by the clock
_LOAD_BYTES = 2 << 30
_REQUEST = struct.Struct("<BI")
_ANSWER = struct.Struct("<i")
_FORK, _STATUS = 1, 2


def available() -> bool:
    """Return whether this system can fork workers; elsewhere files are decoded in the process of the command."""
    return sys.platform == "linux"


class ForkServer:
    """The parent's handle of the process. Safe to share between threads."""

    def __init__(self, load: Callable[[], Serve], name: str) -> None:
        """Fork the process. Call this before the first thread is started and before files are opened.

        Args:
            load: Called in the new process; returns what each worker runs.
            name: What is loaded, for messages.
        """
        self._name, self._lock = name, threading.Lock()
        self._control, other = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            self.pid = os.fork()
        except OSError:
            self._control.close()
            other.close()
            raise
        if self.pid == 0:
            self._control.close()
            _run(other, load)
        other.close()

    def wait_until_loaded(self) -> None:
        """Wait until workers can be forked.

        Raises:
            ModelRejected: The bundle cannot be loaded, or the runtime ended over it.
        """
        with self._lock:
            self._control.settimeout(_LOAD_PATIENCE)
            head = self._receive()
            self._control.settimeout(None)
            if head is None:
                os.kill(self.pid, signal.SIGKILL)
                raise ModelRejected(f"{self._name}: the runtime ended while it loaded this bundle; do not use it")
            if head:
                raise ModelRejected(self._control.recv(head, socket.MSG_WAITALL).decode("utf-8", "replace"))

    def fork(self) -> tuple[int, socket.socket]:
        """Fork a worker. Returns its process id and the connection to it. Raises `EdgeCTError` if it cannot start."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self._control, [_REQUEST.pack(_FORK, 0)], [theirs.fileno()])
            except OSError:
                pid = None
            else:
                pid = self._receive()
        if pid is None or pid <= 0:
            ours.close()
            raise EdgeCTError("no further worker process can be started; restart the command")
        return pid, ours

    def status(self, pid: int) -> int | None:
        """Wait for the end of a worker and return its status, as `subprocess.Popen.returncode`; None if unknown."""
        with self._lock:
            try:
                self._control.sendall(_REQUEST.pack(_STATUS, pid))
            except OSError:
                return None
            return self._receive()

    def close(self) -> None:
        """End the process; workers end when their connections are closed."""
        with contextlib.suppress(OSError):
            self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _receive(self) -> int | None:
        try:
            data = self._control.recv(_ANSWER.size, socket.MSG_WAITALL)
        except OSError:
            return None
        return int(_ANSWER.unpack(data)[0]) if len(data) == _ANSWER.size else None


def _run(control: socket.socket, load: Callable[[], Serve]) -> None:
    """The life of the forked process; never returns into the code of the command."""
    status = 1
    try:
        # Ctrl-C and systemd signal all processes of a command; these end when the command closes its connections.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _close_others(control.fileno())
        serve = _load(control, load)
        if serve is not None:
            gc.collect()
            gc.freeze()
            _answer_requests(control, serve)
            status = 0
    finally:
        os._exit(status)


def _load(control: socket.socket, load: Callable[[], Serve]) -> Serve | None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _LOAD_BYTES + address_space()
    message = ""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, _LOAD_SECONDS)
        serve = load()
    except EdgeCTError as error:
        message = str(error)
    except BaseException as error:
        message = f"the bundle cannot be loaded: {type(error).__name__}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    content = message.encode()[:4096]
    control.sendall(_ANSWER.pack(len(content)) + content)
    return None if message else serve


def _answer_requests(control: socket.socket, serve: Serve) -> None:
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 1)
        if len(data) < _REQUEST.size:
            return
        kind, pid = _REQUEST.unpack(data)
        if kind == _STATUS:
            try:
                answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except ChildProcessError:
                answer = -signal.SIGKILL
        else:
            answer = _fork_worker(control, serve, descriptors[0])
            os.close(descriptors[0])
        control.sendall(_ANSWER.pack(answer))


def _fork_worker(control: socket.socket, serve: Serve, descriptor: int) -> int:
    try:
        pid = os.fork()
    except OSError:
        return -1
    if pid == 0:
        status = 1
        try:
            control.close()
            # Where memory runs out, the kernel is to end a worker and not the command.
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("800")
            serve(socket.socket(fileno=descriptor))
            status = 0
        finally:
            os._exit(status)
    return pid


def _close_others(kept: int) -> None:
    """Close all descriptors of the command but the standard ones; silence standard error, where libraries write."""
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in (0, 1, 2, kept):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def address_space() -> int:
    """Return the size in bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
