"""Learning curves in TensorBoard's file format, written without TensorFlow or TensorBoard.

An event file is a sequence of TFRecords, each a serialised `Event` (tensorflow/core/util/event.proto): wall time,
step, and a summary of (tag, value) pairs. TensorBoard finds it by `tfevents` in its name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from edge_ct.system.files import write_bytes

_NAME = "events.out.tfevents.edge-ct"
# Protocol-buffer tags: field number << 3 | wire type (0 varint, 1 double, 2 bytes, 5 float).
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY = 1 << 3 | 1, 2 << 3, 3 << 3 | 2, 5 << 3 | 2
_VALUE, _TAG, _SIMPLE_VALUE = 1 << 3 | 2, 1 << 3 | 2, 2 << 3 | 5


def begin(folder: Path, at: float) -> None:
    """Start empty logs `train` and `validation` in `folder`, replacing old ones.

    Args:
        folder: Folder of the logs.
        at: Time in seconds since 1970.
    """
    for part in ("train", "validation"):
        version = b"brain.Event:2"
        write_bytes(folder / part / _NAME, _record(_event(at) + bytes([_FILE_VERSION, len(version)]) + version))


def add(folder: Path, row: Mapping[str, float], at: float) -> None:
    """Add an epoch to the logs.

    Args:
        folder: Folder of the logs.
        row: The epoch's row of history.csv: `epoch` becomes the step, columns that start with `val_` go to the
            validation log, all others to the training log.
        at: Time in seconds since 1970.
    """
    for part in ("train", "validation"):
        values = {
            name.removeprefix("val_"): value
            for name, value in row.items()
            if name != "epoch" and name.startswith("val_") == (part == "validation")
        }
        with (folder / part / _NAME).open("ab") as file:
            file.write(_record(_scalars(values, int(row["epoch"]), at)))


def _scalars(values: Mapping[str, float], step: int, at: float) -> bytes:
    summary = b""
    for name, number in values.items():
        tag = name.encode()
        value = bytes([_TAG, len(tag)]) + tag + bytes([_SIMPLE_VALUE]) + struct.pack("<f", number)
        summary += bytes([_VALUE]) + _varint(len(value)) + value
    return _event(at) + bytes([_STEP]) + _varint(step) + bytes([_SUMMARY]) + _varint(len(summary)) + summary


def _event(at: float) -> bytes:
    return bytes([_WALL_TIME]) + struct.pack("<d", at)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _record(content: bytes) -> bytes:
    """Return a TFRecord: length, checksum of the length, content, checksum of the content."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return the CRC-32C (Castagnoli) checksum, rotated and offset as TFRecord requires."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
