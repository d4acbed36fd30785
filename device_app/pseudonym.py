"""The device key, and pseudonyms of patients: HMAC-SHA256 of the identifier under this key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from pathlib import Path

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import create_once

FILE = "device.key"
_BYTES = 32
_DAMAGED = "not a device key; restore it from a backup"


def device_key(folder: Path) -> bytes:
    """Return the device key, and make it if it does not exist.

    The key is 32 bytes, written in hexadecimal to a file that only its owner can read. Processes that make it at the
    same time all get the same key.

    Args:
        folder: The folder of the key; it must exist.

    Raises:
        EdgeCTError: The file cannot be read or made, or is not a device key.
    """
    path = folder / FILE
    try:
        if not path.exists():
            create_once(path, f"{secrets.token_hex(_BYTES)}\n".encode(), 0o600)
    except OSError as error:
        raise EdgeCTError(f"{path}: the device key cannot be made: {error.strerror or error}") from error
    key = existing_key(folder)
    assert key is not None
    return key


def existing_key(folder: Path) -> bytes | None:
    """Return the device key; None if there is none.

    Raises:
        EdgeCTError: The file cannot be read, or is not a device key.
    """
    path = folder / FILE
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EdgeCTError(f"{path}: the device key cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise EdgeCTError(f"{path}: {_DAMAGED}") from error
    if len(key) != _BYTES:
        raise EdgeCTError(f"{path}: {_DAMAGED}")
    return key


def temporary_key(folder: Path) -> bytes:
    """Return the device key if there is a readable one, else a random key that lasts as long as the process."""
    with suppress(EdgeCTError):
        key = existing_key(folder)
        if key is not None:
            return key
    return secrets.token_bytes(_BYTES)


def pseudonym(key: bytes, identifier: str | None) -> str | None:
    """Return the pseudonym of a patient, 16 hexadecimal digits; None if there is no identifier."""
    identifier = (identifier or "").strip()
    if not identifier:
        return None
    return hmac.new(key, identifier.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()[:16]
