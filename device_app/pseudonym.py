"""Patients by a key that only this device can make: HMAC-SHA256 of the identifier, under a secret of the device."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from edge_ct.errors import EdgeCTError

FILE = "device.key"
_BYTES = 32


def device_key(folder: Path) -> bytes:
    """The device's secret, 32 bytes in hex in a file of mode 0600; made where there is none.

    Processes that make one at once agree on the first. Raises `EdgeCTError` for a file that is no such key.
    """
    path = folder / FILE
    try:
        if not path.exists():
            _make(path)
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise EdgeCTError(f"{path}: the device key cannot be read or made: {error.strerror or error}") from error
    except ValueError as error:
        raise EdgeCTError(f"{path}: not a device key; restore it, or move it away and patients get new keys") from error
    if len(key) != _BYTES:
        raise EdgeCTError(f"{path}: not a device key; restore it, or move it away and patients get new keys")
    return key


def passing_key(folder: Path) -> bytes:
    """The device's secret where it has one that can be read; else another, which is forgotten with the process."""
    try:
        if (folder / FILE).exists():
            return device_key(folder)
    except (OSError, EdgeCTError):
        pass
    return secrets.token_bytes(_BYTES)


def pseudonym(key: bytes, identifier: str | None) -> str | None:
    """The patient's key, 16 hex digits; None where there is no identifier."""
    identifier = (identifier or "").strip()
    if not identifier:
        return None
    return hmac.new(key, identifier.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()[:16]


def _make(path: Path) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{FILE}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never takes the place of another's key.
        with suppress(FileExistsError):
            os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with suppress(OSError):
            temporary.unlink()
