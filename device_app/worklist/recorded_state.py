"""What the audit trail says that the worklist's file must hold."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .audit_trail import digest, entry_mac
from .schema import schema_version


@dataclass(frozen=True)
class Problem:
    """A difference between the file and its trail. entry: number of the entry that it concerns, if it concerns one."""

    text: str
    entry: int | None = None


@dataclass
class RecordedState:
    """What the trail says that the file must hold.

    Attributes:
        entries: Number of intact entries.
        last_hash: Hash of the last one.
        added: Of each result, the number of its entry and its digest.
        pictures: Of each result, the number of the entry that last described its picture, and the digests of picture
            and heat map; results of earlier versions are missing until the upgrade has described them.
        reviewed: Of each review, the number of its entry, its digest and its result.
        latest: Of each result, its latest review.
        seen: Of each file, by its fingerprint in hexadecimal, its result; None if the trail does not tell.
        pruned: Results that were deleted, each with the number of the entry that says so.
        bound: Number of the first entry with an HMAC.
        problems: Entries that contradict each other.
    """

    entries: int = 0
    last_hash: str = ""
    added: dict[int, tuple[int, str]] = field(default_factory=dict)
    pictures: dict[int, tuple[int, str | None, str | None]] = field(default_factory=dict)
    reviewed: dict[int, tuple[int, str, int]] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    seen: dict[str, int] | None = None
    pruned: dict[int, int] = field(default_factory=dict)
    bound: int | None = None
    problems: list[Problem] = field(default_factory=list)

    def read(self, connection: sqlite3.Connection, key: bytes | None) -> Problem | None:
        """Read the trail up to its first broken entry.

        Args:
            connection: A connection to the file.
            key: The key of the trail's HMACs; None if it is not known, which leaves the HMACs unchecked.

        Returns:
            What is wrong with the first broken entry; None if all are whole.
        """
        with_mac = schema_version(connection) > 1
        query = "SELECT seq, time, actor, action, subject, detail, hash, {} FROM audit ORDER BY seq"
        for *entry, stored_hash, mac in connection.execute(query.format("mac" if with_mac else "NULL")):
            seq, _, _, action, subject, text = entry
            if seq != self.entries + 1:
                return Problem(f"entry {self.entries + 1} is missing", self.entries + 1)
            if stored_digest_of((self.last_hash, *entry)) != stored_hash:
                return Problem(f"entry {seq} was changed, or the entry before it was replaced", seq)
            if with_mac:
                problem = self._check_mac(key, seq, action, stored_hash, mac)
                if problem:
                    return problem
            self.entries, self.last_hash = seq, stored_hash
            try:
                self._record(seq, action, subject, msgspec.json.decode(text))
            except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
                return Problem(f"entry {seq} has a content that edge-ct never writes", seq)
        if with_mac and not self.entries:
            self.seen = {}
        if with_mac and self.entries and self.bound is None:
            return Problem("no entry is bound to the device key, although the file says so")
        return None

    def _check_mac(self, key: bytes | None, seq: int, action: str, entry_hash: str, mac: str | None) -> Problem | None:
        bound = self.bound
        if mac is None and bound is None:
            return None  # Entries of an earlier version come before the one that tells of the upgrade.
        if mac is None or (key is not None and mac != entry_mac(key, entry_hash)):
            return Problem(f"entry {seq} was not written with the device key of this worklist", seq)
        if bound is None:
            self.bound = seq
            if seq > 1 and action != "upgrade":
                return Problem(f"entries before {seq} are not bound to the device key, and no upgrade explains it", seq)
        return None

    def _record(self, seq: int, action: str, subject: Any, detail: dict[str, Any]) -> None:
        """Take down what an entry says of the file."""
        if action == "add":
            if subject in self.added:
                self.problems.append(Problem(f"entry {seq} adds result {subject} a second time", seq))
            self.added[int(subject)] = (seq, str(detail["digest"]))
            if "picture" in detail:
                self.pictures[subject] = (seq, detail["picture"], detail["heat"])
        elif action == "heat" and subject in self.pictures:
            self.pictures[subject] = (seq, self.pictures[subject][1], detail["heat"])
        elif action == "review":
            number = int(detail["review"])
            if number in self.reviewed:
                self.problems.append(Problem(f"entry {seq} adds review {number} a second time", seq))
            if subject not in self.added:
                self.problems.append(Problem(f"entry {seq} reviews result {subject}, which no entry adds", seq))
            self.reviewed[number] = (seq, str(detail["digest"]), int(subject))
            self.latest[subject] = number
        elif action == "prune":
            for first, last in detail["results"]:
                # The last condition keeps a forged entry from filling the memory.
                if first not in self.added or last not in self.added or last - first >= len(self.added):
                    text = f"entry {seq} deletes results {first} to {last}, which no entry adds"
                    self.problems.append(Problem(text, seq))
                else:
                    self.pruned.update(dict.fromkeys(range(first, last + 1), seq))
        elif action == "upgrade":
            self.seen = {}
        elif action == "adopt":
            for number, picture, heat in detail["pictures"]:
                self.pictures[number] = (seq, picture, heat)
        if seq == 1 and self.bound == 1:
            self.seen = {}
        if self.seen is not None:
            self.seen.update(detail.get("seen", {}))


def stored_digest_of(values: Sequence[Any]) -> str:
    """Return the digest of stored values; no digest for types that edge-ct never stores, but that JSON writes alike."""
    if any(isinstance(value, bytes) or (isinstance(value, float) and math.isinf(value)) for value in values):
        return ""
    return digest(values)
