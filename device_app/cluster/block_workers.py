"""Ray actors that judge blocks. An actor that is lost is replaced, and its block is judged by another one.

Blocks are handed out here and not by Ray Data: each actor has one block at a time, so memory does not grow with the
archive, a block is repeated alone, and blocks whose part exists are never handed out.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_ct.errors import EdgeCTError

from ..judging.sources import Source
from ..judging.worker import receive, send
from .block_judge import JudgedSlice, JudgeOrder, main

# How often a block is repeated whose actor was lost; after that, the block itself is probably the cause.
RETRIES = 8


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring files of the archive.

    Attributes:
        number: Its place in the archive, from 0.
        sources: The files.
        digest: SHA-256 of their names.
    """

    number: int
    sources: list[Source]
    digest: str


class BlockWorker:
    """The actor: hands blocks to a process that judges them, and ends with it."""

    def __init__(self, order: JudgeOrder) -> None:
        self._channel, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {main.__module__} import main; main({other.fileno()})"],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        send(self._channel, order)

    def describe(self) -> tuple[str, Mapping[str, str]]:
        """Return the name of the node and its versions, once the bundle is loaded."""
        return socket.gethostname(), self._answer()

    def judge(self, sources: list[Source]) -> list[JudgedSlice]:
        """Judge the files of a block, in order."""
        send(self._channel, sources)
        rows: list[JudgedSlice] = self._answer()
        return rows

    def _answer(self) -> Any:
        answer = receive(self._channel)
        if answer is None:  # The process was killed; Ray reports the end of this one.
            os._exit(1)
        if isinstance(answer, EdgeCTError):
            raise answer
        return answer


def judge_blocks(
    ray: Any, blocks: Iterator[Block], create: Callable[[], Any], count: int, versions: Mapping[str, str]
) -> Iterator[tuple[Block, list[JudgedSlice]]]:
    """Judge blocks on actors.

    Args:
        ray: The module, connected to a cluster.
        blocks: The blocks; only those that are being judged are held.
        create: Creates an actor of `BlockWorker`.
        count: Number of actors.
        versions: The versions that each node must have.

    Yields:
        Each block with its rows, in the order in which they are finished.

    Raises:
        EdgeCTError: A node has other versions, the bundle cannot be used there, or the actors of one block were lost
            too often.
    """
    again: deque[Block] = deque()
    idle: list[Any] = []
    losses: dict[int, int] = {}
    running: dict[Any, tuple[Any, Block | None]] = {}
    for _ in range(count):
        actor = create()
        running[actor.describe.remote()] = (actor, None)
    unfinished = True
    while unfinished:
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        actor, block = running.pop(done)
        try:
            answer = _result(ray, done)
        except ray.exceptions.RayError as error:  # An actor, or its node, was lost, or Ray ended it to free memory.
            number = -1 if block is None else block.number
            losses[number] = losses.get(number, 0) + 1
            if losses[number] > RETRIES:
                files = "" if block is None else f" with {block.sources[0].name} to {block.sources[-1].name}"
                raise EdgeCTError(
                    f"workers were lost {RETRIES + 1} times{files}; the last error was: {error}"
                ) from error
            if block is not None:
                again.append(block)
            actor = create()
            running[actor.describe.remote()] = (actor, None)
        else:
            if block is None:
                node, found = answer
                _check_versions(node, found, versions)
            else:
                yield block, answer
            idle.append(actor)
        while idle and (following := again.popleft() if again else next(blocks, None)) is not None:
            actor = idle.pop()
            running[actor.judge.remote(following.sources)] = (actor, following)
        # Actors that have no block yet are not waited for.
        unfinished = bool(again) or any(block is not None for _, block in running.values()) or not idle


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgeCTError):
            raise error.cause from error
        raise EdgeCTError(f"a worker failed: {type(error.cause).__name__}: {error.cause}") from error


def _check_versions(node: str, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    if found == expected:
        return
    listed = ", ".join(
        f"{name} {found.get(name, 'missing')} instead of {version}"
        for name, version in expected.items()
        if found.get(name) != version
    )
    raise EdgeCTError(f"the node {node} has {listed}; install the same versions on all nodes")
