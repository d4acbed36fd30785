"""An Ed25519 signature over a whole bundle: it proves who made the bundle; the seal only shows that it is undamaged.

    [flatbuffer][zip ... [comment: the signature][the seal]]

The signature covers every byte before it and the length of the flatbuffer, which is stated after it. The seal covers
both and stays at the end of the file, so that edge-ct without the extra `sign` reads a signed bundle like any other.
Keys are PEM files, as OpenSSL writes them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle import SEAL_LENGTH, Bundle, append_seal
from ..errors import EdgeCTError, MissingExtra, ModelRejected
from ..system.files import create_once

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_LINE = b"edge-ct signature 1, ed25519, key %16s, %128s\n"
_LENGTH = len(_LINE % (b"", b""))
_FORM = re.compile(rb"edge-ct signature 1, ed25519, key ([0-9a-f]{16}), ([0-9a-f]{128})\n")
_SMALL = 10_000  # bytes of a key file


def generate_keys(private: Path, public: Path) -> str:
    """Generate a pair of keys. Existing files are never overwritten.

    Args:
        private: File for the private key; only its owner can read it.
        public: File for the public key.

    Returns:
        Fingerprint of the public key.

    Raises:
        EdgeCTError: One of the files exists or cannot be written.
    """
    ed25519, serialization = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    shown = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public.exists():
        raise EdgeCTError(f"{public}: already exists; keys are never overwritten")
    _write_new(private, secret, 0o600)
    _write_new(public, shown, 0o644)
    return key_fingerprint(key.public_key())


def key_fingerprint(key: Ed25519PublicKey) -> str:
    """Return the first sixteen hex digits of the SHA-256 of a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign_bundle(bundle: Bundle, private: Path) -> bytes:
    """Return the bytes of a bundle with a new signature, which replaces an existing one.

    Args:
        bundle: The bundle.
        private: File of the private key.

    Raises:
        EdgeCTError: The file is not an unencrypted Ed25519 private key.
    """
    ed25519, serialization = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read(private), None)
    except (ValueError, TypeError) as error:
        raise EdgeCTError(f"{private}: not an unencrypted private key in PEM form") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise EdgeCTError(f"{private}: not an Ed25519 key; make one with edge-ct bundle keygen")
    body = _unsigned_body(bundle)
    body = body[:-2] + (_LENGTH + SEAL_LENGTH).to_bytes(2, "little")
    line = _LINE % (key_fingerprint(key.public_key()).encode(), key.sign(_message(body, bundle)).hex().encode())
    return append_seal(body + line, bundle.model_bytes)


def signing_key(bundle: Bundle) -> str | None:
    """Return the fingerprint that the signature of a bundle states; None if it is unsigned. Nothing is verified."""
    found = _FORM.fullmatch(_line(bundle))
    return found.group(1).decode() if found else None


def verify_signature(bundle: Bundle, public: Path) -> str:
    """Verify the signature of a bundle.

    Args:
        bundle: The bundle.
        public: File of the public key.

    Returns:
        Fingerprint of the key.

    Raises:
        ModelRejected: The bundle was not signed with this key, or was changed after signing.
    """
    ed25519, serialization = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        key = serialization.load_pem_public_key(_read(public))
    except ValueError as error:
        raise EdgeCTError(f"{public}: not a public key in PEM form") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise EdgeCTError(f"{public}: not an Ed25519 key")
    found = _FORM.fullmatch(_line(bundle))
    if not found:
        raise ModelRejected(f"{bundle.source}: it is not signed, or its signature was removed; do not use it")
    name = key_fingerprint(key)
    body = bundle.content[: -_LENGTH - SEAL_LENGTH]
    try:
        key.verify(bytes.fromhex(found.group(2).decode()), _message(body, bundle))
    except InvalidSignature as error:
        other = found.group(1).decode()
        why = "it was changed or forged" if other == name else f"its signature states key {other}"
        raise ModelRejected(f"{bundle.source}: not signed with key {name}: {why}; do not use it") from error
    return name


def _message(body: bytes, bundle: Bundle) -> bytes:
    """Return the signed message: everything before the signature, and the length of the flatbuffer."""
    return body + b", model %d bytes" % bundle.model_bytes


def _line(bundle: Bundle) -> bytes:
    return bundle.content[-_LENGTH - SEAL_LENGTH : -SEAL_LENGTH]


def _unsigned_body(bundle: Bundle) -> bytes:
    end = SEAL_LENGTH + (_LENGTH if signing_key(bundle) else 0)
    return bundle.content[:-end]


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra("signing needs cryptography: pip install 'edge-ct[sign]'") from error
    return ed25519, serialization


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SMALL)
    except (OSError, ValueError) as error:
        raise EdgeCTError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Create a file that must not exist, with its mode from the start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        created = create_once(path, content, mode)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be written: {error.strerror or error}") from error
    if not created:
        raise EdgeCTError(f"{path}: already exists; keys are never overwritten")
