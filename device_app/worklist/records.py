"""A worklist's rows: a judgement as it is stored, as it is read back, and in which order it is looked at."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import cv2
import msgspec
import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Judgement
from edge_ct.decision import Decision
from edge_ct.errors import EdgeCTError
from edge_ct.imaging.exact_resize import block_mean
from edge_ct.system.files import printable

from ..heatmaps.heatmap import Heat, of_class_map

Label = Literal["positive", "negative", "unusable"]
Verdict = Literal["agree", "override"]
State = Literal["open", "reviewed"]

# Who is looked at first: a rejected slice is one that nobody has judged, so it comes before what was found negative.
URGENCY: dict[Decision, int] = {"positive": 0, "refer": 1, "rejected": 2, "negative": 3}
# Pictures of larger slices are halved until they fit; the hash stays that of the slice.
PICTURE_SIDE = 1024


class Review(msgspec.Struct, frozen=True):
    """What a person says of a result. label: what the slice shows; None where agreeing leaves that open (`refer`)."""

    id: int
    result: int
    time: str
    reviewer: str
    verdict: Verdict
    label: Label | None
    note: str


class Row(msgspec.Struct, frozen=True):
    """One result. sha256: of the pixels, None where the file could not be read. patient: pseudonymised key.

    bundle: the bundle's SHA-256 seal. latency_ms: decoding, preprocessing and inference. time: UTC. origin: the command
    that judged it. review: the latest one.
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
    review: Review | None


class Added(msgspec.Struct, frozen=True):
    """A row that is on the disk; new: False where it was there already, the same slice judged by the same bundle."""

    row: Row
    new: bool


@dataclass(frozen=True, eq=False)
class Entry:
    """A judgement ready to be stored: everything that takes time is done.

    identity: two entries with the same one are one result. patient: pseudonymised. png: the grey slice. seen: a
    fingerprint of the file it came from. item: a queue's item that is done with it.
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
    seen: bytes | None
    item: int | None

    @property
    def size(self) -> int:
        """Bytes that storing it takes, about."""
        return 4096 + len(self.png or b"") + (self.heat.evidence.nbytes if self.heat else 0)


def entry(
    judgement: Judgement,
    bundle: Bundle,
    origin: str,
    patient: str | None,
    key: str | None = None,
    series: str | None = None,
    heat: Heat | None = None,
    seen: bytes | None = None,
    item: int | None = None,
) -> Entry:
    """Prepare a judgement. patient: the pseudonym. Other arguments: `Worklist.add`."""
    result, one = judgement.result, judgement.slice
    ids = one.dicom if one else None
    if heat is None and judgement.outputs is not None and judgement.outputs.class_map is not None:
        heat = of_class_map(judgement.outputs.class_map, bundle.manifest)
    spent = [own for own in (result.ms.decode, result.ms.preprocess, result.ms.inference) if own is not None]
    seal = bundle.seal
    # Equal pixels are one slice, unless DICOM says that they are two. A file that could not be read is nobody's twin.
    unlike = key or (f"{one.sha256} {ids.instance if ids else ''}" if one else _random())
    p = result.probability
    return Entry(
        identity=hashlib.sha256(f"{seal} {unlike}".encode("utf-8", "backslashreplace")).hexdigest(),
        origin=origin,
        source=printable(result.source),
        sha256=one.sha256 if one else None,
        patient=patient,
        study=printable(ids.study) or None if ids else None,
        series=printable(series or result.series or "") or None,
        instance=printable(ids.instance) or None if ids else None,
        decision=result.decision,
        probability=None if p is None or math.isnan(p) else float(p),
        reason=printable(result.reason) if result.reason else None,
        model=result.model,
        bundle=seal,
        latency_ms=sum(spent) if spent else None,
        png=encode(one.pixels, result.source) if one else None,
        heat=heat,
        seen=seen,
        item=item,
    )


def encode(pixels: np.ndarray, source: str, whole: bool = False) -> bytes:
    """Grey uint8 [h, w] as PNG, lossless up to `PICTURE_SIDE`, or `whole`."""
    factor = 1
    while not whole and max(pixels.shape) > factor * PICTURE_SIDE:
        factor *= 2
    encoded, content = cv2.imencode(".png", block_mean(pixels, factor, factor), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise EdgeCTError(f"{source}: cannot be encoded")
    return content.tobytes()


def _random() -> str:
    import secrets

    return secrets.token_hex(16)
