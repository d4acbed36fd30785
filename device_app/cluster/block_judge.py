"""The process of an actor: it judges blocks of files on a worker pool, as a local `edge-ct classify` does.

It is a process of its own because Ray's processes have threads, and the pool forks. `BlockWorker` starts it with `main`
and a connection, which carries messages of `judging.worker`: the bundle, the answer (versions or an error), then lists
of sources, each answered with its rows.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from edge_ct import __version__
from edge_ct.bundle import unpack_bundle
from edge_ct.classifier import Classifier, Result
from edge_ct.engines.names import EngineName, describe_engine
from edge_ct.errors import EdgeCTError
from edge_ct.system.files import printable

from ..judging.judge import SliceJudgement
from ..judging.pool import open_judge
from ..judging.sources import Source
from ..judging.worker import receive, send


@dataclass(frozen=True)
class JudgeOrder:
    """What an actor needs before its first block.

    Attributes:
        content: The bundle.
        source: The name of the bundle in messages.
        threads: Number of threads of the interpreter.
        engine: The program that computes the network.
    """

    content: bytes
    source: str
    threads: int
    engine: EngineName


@dataclass(frozen=True)
class JudgedSlice:
    """A result, and whether its file could be read."""

    result: Result
    readable: bool


def prepare_slice(judgement: SliceJudgement, classifier: Classifier) -> JudgedSlice:
    """Return what is kept of a judgement (called on the pool's worker)."""
    result = judgement.result
    return JudgedSlice(msgspec.structs.replace(result, source=printable(result.source)), judgement.readable)


def installed_versions(engine: EngineName) -> Mapping[str, str]:
    """Return the versions that decide about the results."""
    return {
        "edge-ct": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "engine": describe_engine(engine),
    }


def main(descriptor: int) -> None:
    """Judge blocks until the other end of the connection is closed."""
    channel = socket.socket(fileno=descriptor)
    order: JudgeOrder | None = receive(channel)
    if order is None:
        return
    try:
        judge = open_judge(unpack_bundle(order.content, order.source), 1, order.threads, order.engine)
    except EdgeCTError as error:
        send(channel, error)
        return
    with judge:
        send(channel, installed_versions(order.engine))
        while True:
            block: list[Source] | None = receive(channel)
            if block is None:
                return
            try:
                answer: object = [row for batch in judge.judge_each(block, prepare_slice) for row in batch]
            except EdgeCTError as error:
                answer = error
            send(channel, answer)
