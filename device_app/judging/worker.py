"""A worker process: runs jobs on foreign files, within limits of memory and processor time.

A job is a picklable function of the classifier that yields values. A value, the end of the job with its last value, or
an error is one message: 8 bytes of length, then a pickle.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError

from .fork_server import Serve, address_space

Job = Callable[[Classifier], Iterator[Any]]

# What decoding and judging one slice may take beyond the loaded bundle. The largest image that `limits` allows, a
# progressive JPEG of 4096 x 4096 px in colour or a JPEG 2000 of 16 bits, takes about 250 MiB.
MEMORY = 288 << 20

# An object of several frames may take as long as this number of single slices.
SLICES = 128

VALUE, DONE, ERROR = "value", "done", "error"
OUT_OF_MEMORY = 77  # exit status of a worker whose memory was not enough for a job
_LENGTH = struct.Struct("<Q")


def loader(bundle: Bundle, threads: int, engine: EngineName = DEFAULT_ENGINE) -> Callable[[], Serve]:
    """Return what the fork server runs to load a bundle."""

    def load() -> Serve:
        # With several threads LiteRT starts them when it is made, and they would not survive the fork; OpenVINO starts
        # threads in any case.
        shared = threads == 1 and engine == DEFAULT_ENGINE
        classifier = Classifier(bundle)

        def serve(channel: socket.socket) -> None:
            try:
                loaded = classifier if shared else Classifier(bundle, threads, engine)
            except EdgeCTError as error:
                send(channel, (ERROR, error))
                return
            run(channel, loaded, threads)

        return serve

    return load


def run(channel: socket.socket, classifier: Classifier, threads: int = 1) -> None:
    """Run jobs until the other end of the channel is closed."""
    limit = address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    send(channel, (DONE, None))  # It has started: what ends it from now on is a job.
    while (message := receive(channel)) is not None:
        job, seconds = message
        # SIGPROF ends the process, inside a decoder too.
        allowed = seconds * threads
        timer, left = allowed, allowed * SLICES
        signal.setitimer(signal.ITIMER_PROF, timer)
        last: list[Any] = []
        failure: Exception | None = None
        try:
            for value in job(classifier):
                if last:
                    send(channel, (VALUE, last.pop()))
                # The last value travels with the end of the job: most jobs have one value, and so one message.
                last.append(value)
                left -= timer - signal.getitimer(signal.ITIMER_PROF)[0]
                timer = max(min(allowed, left), 1e-3)
                signal.setitimer(signal.ITIMER_PROF, timer)
            send(channel, (DONE, last))
        except BrokenPipeError:
            return
        except MemoryError:
            os._exit(OUT_OF_MEMORY)  # A process that is short of memory is of no more use.
        except Exception as error:
            failure = error
        signal.setitimer(signal.ITIMER_PROF, 0)
        if failure is None:
            continue
        try:
            send(channel, (ERROR, failure))
        except (pickle.PicklingError, TypeError, AttributeError):
            send(channel, (ERROR, EdgeCTError(f"a worker failed: {failure!r}"[:500])))


def send(channel: socket.socket, value: object) -> None:
    """Send one value."""
    message = BytesIO()
    message.write(_LENGTH.pack(0))
    pickle.dump(value, message, pickle.HIGHEST_PROTOCOL)
    content = message.getbuffer()
    _LENGTH.pack_into(content, 0, len(content) - _LENGTH.size)
    channel.sendall(content)


def receive(channel: socket.socket) -> Any:
    """Receive one value; None at the end of the connection. Raises TimeoutError."""
    head = _receive_exactly(channel, _LENGTH.size)
    content = head and _receive_exactly(channel, _LENGTH.unpack(head)[0])
    return pickle.loads(content) if content else None


def _receive_exactly(channel: socket.socket, size: int) -> bytearray | None:
    content = bytearray(size)
    view, position = memoryview(content), 0
    while position < size:
        try:
            count = channel.recv_into(view[position:])
        except (ConnectionError, BrokenPipeError):
            return None
        if not count:
            return None
        position += count
    return content
