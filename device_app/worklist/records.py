"""What the worklist stores of a judgement, as it is written and as it is read back."""

from __future__ import annotations

import hashlib
import math
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Judgement
from edge_ct.decision import Decision
from edge_ct.imaging.exact_resize import block_mean
from edge_ct.slices import Slice
from edge_ct.system.files import printable

from ..heatmaps.heatmap import Heat, encode_png, map_heat

Label = Literal["positive", "negative", "unusable"]
Verdict = Literal["agree", "override"]
State = Literal["open", "reviewed"]

# Order of review. A rejected slice has been judged by nobody, so it comes before the negative ones.
URGENCY: dict[Decision, int] = {"positive": 0, "refer": 1, "rejected": 2, "negative": 3}
# Larger slices are halved until they fit; the stored hash stays that of the slice itself.
PICTURE_SIDE = 1024

# The model's answer: the columns of table `results` that are written once and never changed, with their SQL types.
# The schema, its trigger, the INSERT statement and the digests of the audit trail are made from this table.
COLUMNS = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "identity": "TEXT NOT NULL UNIQUE",
    "time": "TEXT NOT NULL",
    "origin": "TEXT NOT NULL",
    "source": "TEXT NOT NULL",
    "sha256": "TEXT",
    "patient": "TEXT",
    "study": "TEXT",
    "series": "TEXT",
    "instance": "TEXT",
    "decision": "TEXT NOT NULL CHECK (decision IN ('positive', 'refer', 'rejected', 'negative'))",
    "urgency": "INTEGER NOT NULL",
    "probability": "REAL",
    "reason": "TEXT",
    "model": "TEXT NOT NULL",
    "bundle": "TEXT NOT NULL",
    "latency_ms": "REAL",
}
# Columns of the answer that version 2 of the schema added. A digest leaves them out where all are empty, so that the
# digests of earlier results stay as they were.
LATER_COLUMNS = {"lesion_share": "REAL", "lung_area": "REAL"}


class Review(msgspec.Struct, frozen=True):
    """What a reviewer says about a result.

    Attributes:
        result: Id of the result.
        time: UTC.
        label: What the slice shows; None if the reviewer agrees with `refer` or `rejected`, which name no class.
    """

    id: int
    result: int
    time: str
    reviewer: str
    verdict: Verdict
    label: Label | None
    note: str


class Row(msgspec.Struct, frozen=True):
    """One stored result.

    Attributes:
        time: When the result was stored, UTC.
        origin: The command that judged the slice.
        sha256: Hash of the pixels; None if the file could not be read.
        patient: Pseudonymised key.
        probability: Calibrated P(positive); None for a rejected slice.
        bundle: SHA-256 seal of the bundle.
        latency_ms: Time of decoding, preprocessing and inference together.
        lesion_share: Share of the lungs that shows opacities, 0 to 1; None if it was not measured.
        review: The latest review; None while the result is open.
    """

    id: int
    time: str
    origin: str
    source: str
    sha256: str | None
    patient: str | None
    study: str | None
    series: str | None
    instance: str | None
    decision: Decision
    probability: float | None
    reason: str | None
    model: str
    bundle: str
    latency_ms: float | None
    state: State
    lesion_share: float | None
    review: Review | None

    @property
    def reading(self) -> Decision | None:
        """The decision of the latest review; None while the result is open."""
        if self.review is None:
            return None
        if self.review.verdict == "agree":
            return self.decision
        label = self.review.label
        return "rejected" if label is None or label == "unusable" else label

    @property
    def outcome(self) -> Decision:
        """The decision that counts: that of the reviewer, else that of the model."""
        return self.reading or self.decision


class Added(msgspec.Struct, frozen=True):
    """A row that is on the disk.

    Attributes:
        new: False if the same bundle has judged the same slice before; `row` is then the earlier result.
    """

    row: Row
    new: bool


@dataclass(frozen=True, eq=False)
class Entry:
    """A judgement that is ready to be stored: hashing and encoding are done.

    Attributes:
        identity: Two entries with the same identity are one result.
        patient: The patient's identifier in clear; the worklist stores its pseudonym.
        png: The grey slice as PNG; None if the file could not be read.
        heat: The heat map; None if there is none.
        picture_sha256: See `picture_digest`.
        heat_sha256: See `heat_digest`.
        fingerprint: Fingerprint of the file that the slice came from, stored so that the file is not judged again.
        show_identity: True if the worklist stores `patient` in clear.
        lesion_share: Share of the lungs that shows opacities, 0 to 1; None if it was not measured.
        lung_area: Area of the lungs as a share of the area of the slice, the weight of the lesion share in a series.
    """

    identity: str
    origin: str
    source: str
    sha256: str | None
    patient: str | None
    study: str | None
    series: str | None
    instance: str | None
    decision: Decision
    probability: float | None
    reason: str | None
    model: str
    bundle: str
    latency_ms: float | None
    png: bytes | None
    heat: Heat | None
    picture_sha256: str | None
    heat_sha256: str | None
    fingerprint: bytes | None = None
    show_identity: bool = False
    lesion_share: float | None = None
    lung_area: float | None = None

    @property
    def size(self) -> int:
        """Approximate number of bytes that the entry takes on the disk."""
        return 4096 + len(self.png or b"") + (self.heat.evidence.nbytes if self.heat else 0)


def prepare_entry(
    judgement: Judgement,
    bundle: Bundle,
    *,
    origin: str,
    patient: str | None = None,
    key: str | None = None,
    series: str | None = None,
    heat: Heat | None = None,
    fingerprint: bytes | None = None,
) -> Entry:
    """Prepare a judgement to be stored. This hashes and encodes and needs no worklist, so a worker should do it.

    Args:
        judgement: The judgement.
        bundle: The bundle that judged the slice.
        origin: The command that judged the slice.
        patient: The patient's identifier in clear. By default the PatientID of the DICOM object.
        key: Two judgements of one bundle with the same key are one result. By default the hash of the pixels, together
            with the instance UID of a DICOM object.
        series: The series. By default that of the DICOM object.
        heat: The heat map, for a bundle whose graph has no class map.
        fingerprint: Fingerprint of the file, stored so that the file is not judged again.
    """
    result, slice_ = judgement.result, judgement.slice
    ids = slice_.dicom if slice_ else None
    times = [ms for ms in (result.ms.decode, result.ms.preprocess, result.ms.inference) if ms is not None]
    p = result.probability
    png = encode_picture(slice_.pixels, result.source) if slice_ else None
    heat = heat or map_heat(judgement, bundle.manifest)
    return Entry(
        identity=_identity(bundle, key or _default_key(slice_)),
        origin=origin,
        source=printable(result.source),
        sha256=slice_.sha256 if slice_ else None,
        patient=patient or (ids.patient if ids else None),
        study=printable(ids.study) or None if ids else None,
        series=printable(series or result.series or "") or None,
        instance=printable(ids.instance) or None if ids else None,
        decision=result.decision,
        probability=None if p is None or math.isnan(p) else float(p),
        reason=printable(result.reason) if result.reason else None,
        model=result.model,
        bundle=bundle.seal,
        latency_ms=sum(times) if times else None,
        png=png,
        heat=heat,
        picture_sha256=picture_digest(png),
        # A heat map is stored beside its picture.
        heat_sha256=heat_digest(*heat_values(heat)) if heat and png is not None else None,
        fingerprint=fingerprint,
        lesion_share=result.lesion_share,
        lung_area=judgement.areas.lung if judgement.areas else None,
    )


def _default_key(slice_: Slice | None) -> str:
    """Return what identifies a slice: equal pixels are one slice, unless DICOM gives them different instance UIDs."""
    if slice_ is None:  # An unreadable file never matches another one.
        return secrets.token_hex(16)
    return f"{slice_.sha256} {slice_.dicom.instance if slice_.dicom else ''}"


def _identity(bundle: Bundle, key: str) -> str:
    return hashlib.sha256(f"{bundle.seal} {key}".encode("utf-8", "backslashreplace")).hexdigest()


def answer_values(entry: Entry, patient: str | None, time: str) -> dict[str, object]:
    """Return the values of an entry's columns by name; `patient` is stored as it is, and SQLite assigns the id."""
    assigned = {"id": None, "time": time, "patient": patient, "urgency": URGENCY[entry.decision]}
    return {name: assigned[name] if name in assigned else getattr(entry, name) for name in (*COLUMNS, *LATER_COLUMNS)}


def select_rows(connection: sqlite3.Connection) -> str:
    """Return the SQL that selects what `read_row` reads; a file of version 1 has no lesion shares."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    names = [name for name in Row.__struct_fields__ if name != "review"]
    columns = ["NULL" if version < 2 and name in LATER_COLUMNS else f"r.{name}" for name in names]
    columns += [f"v.{name}" for name in Review.__struct_fields__]
    return f"SELECT {', '.join(columns)} FROM results r LEFT JOIN reviews v ON v.id = r.review"


def read_row(values: Sequence[object]) -> Row:
    """Return the row that `select_rows` selects."""
    columns = len(Row.__struct_fields__) - 1
    review: Any = values[columns:]
    fields: Any = (*values[:columns], Review(*review) if review[0] is not None else None)
    return Row(*fields)


def heat_values(heat: Heat) -> tuple[bytes, int, int, str]:
    """Return a heat map as it is stored: float32 cells row by row, then the centres, if any; rows; columns; method."""
    rows, columns = heat.evidence.shape
    content = np.concatenate([heat.evidence.reshape(-1), heat.centres or ()]).astype(np.float32).tobytes()
    return content, rows, columns, heat.method


def picture_digest(png: bytes | None) -> str | None:
    """Return the SHA-256 of a picture; None if there is none."""
    return None if png is None else hashlib.sha256(png).hexdigest()


def heat_digest(content: bytes | None, rows: int | None, columns: int | None, method: str | None) -> str | None:
    """Return the SHA-256 of a heat map as it is stored; None if there is none."""
    if content is None:
        return None
    return hashlib.sha256(msgspec.json.encode([rows, columns, method]) + content).hexdigest()


def read_heat(content: bytes, rows: int, columns: int, method: str) -> Heat:
    """Return the heat map that `heat_values` described."""
    values = np.frombuffer(content, np.float32)
    evidence, centres = values[: rows * columns].reshape(rows, columns), values[rows * columns :]
    return Heat(evidence, method, tuple(centres.tolist()) or None)


def encode_picture(pixels: np.ndarray, source: str) -> bytes:
    """Encode a slice for storage.

    Args:
        pixels: uint8 [h, w].
        source: The name of the slice, for errors.

    Returns:
        A PNG file: lossless up to `PICTURE_SIDE`, halved until it fits beyond that.
    """
    factor = 1
    while max(pixels.shape) > factor * PICTURE_SIDE:
        factor *= 2
    return encode_png(block_mean(pixels, factor, factor), source)
