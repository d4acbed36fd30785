"""The one-file bundle: a TFLite flatbuffer with a zip appended, sealed by a SHA-256 over every byte before it.

    [flatbuffer][zip: manifest.json, labels.txt, split.csv, golden/*.png, ...][comment: a signature, if any; the seal]

Any TFLite tool loads the file unchanged, and `unzip -l` lists it. The seal is at the end of the file and is checked
before anything is parsed, so a single changed byte is found. It protects against damage; `signature` protects against
forgery.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import msgspec

from .errors import EdgeCTError, ModelRejected
from .manifest import SCHEMA, Manifest
from .shipped_models import find_bundle
from .system.files import write_bytes

# hashlib loads OpenSSL: 3.5 MB of memory that a cold `classify` has no other use for. The module that Python itself
# falls back to hashes 3 MB in a few milliseconds more. `random` of the standard library does the same.
try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256
    else:
        from _sha256 import sha256
except ImportError:
    from hashlib import sha256

_SEAL = b"edge-ct bundle 1, model %010d bytes, sha256 %064s"
SEAL_LENGTH = len(_SEAL % (0, b""))
_EPOCH = (1980, 1, 1, 0, 0, 0)
MAX_BYTES = 1 << 30
# Limits on the zip, checked before anything is inflated. A bundle of a large data set has about ten members, the
# largest of which, split.csv, takes some megabytes.
MAX_MEMBERS = 256
MAX_MEMBER_BYTES = 64 << 20
MAX_INFLATED_BYTES = 128 << 20
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_DIRECTORY_BYTES = 256 << 10
_END_OF_DIRECTORY = struct.Struct("<4s4H2IH")
CARD = "model-card.md"  # optional member


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes:
        content: The whole file. The runtime takes it unchanged: a flatbuffer states where it ends.
        model_bytes: Length of the flatbuffer.
        manifest: The content of manifest.json.
        source: The path of the file, for messages.
    """

    content: bytes
    model_bytes: int
    manifest: Manifest
    source: str

    @property
    def model(self) -> bytes:
        """The TFLite flatbuffer alone."""
        return self.content[: self.model_bytes]

    @property
    def seal(self) -> str:
        """SHA-256 over the file up to the seal, 64 hex digits: it identifies the bundle."""
        return self.content[-64:].decode()

    @property
    def identity(self) -> str:
        """Name and the first eight hex digits of the seal: the label of this bundle's results."""
        return f"{self.manifest.name}@{self.seal[:8]}"

    @property
    def card(self) -> str:
        """The model card as Markdown; "" for a bundle without one."""
        try:
            return self.member(CARD).decode(errors="replace")
        except ModelRejected:
            return ""

    def member(self, name: str) -> bytes:
        """Return the content of one member of the appended zip.

        Raises:
            ModelRejected: There is no such member, or it is damaged.
        """
        with _open_archive(self.content, self.source) as archive:
            return _read_member(archive, name, self.source)


def pack_bundle(model: bytes, manifest: Manifest, members: dict[str, bytes]) -> bytes:
    """Return the bytes of a bundle. The same arguments give the same bytes.

    Args:
        model: The TFLite flatbuffer.
        manifest: The manifest.
        members: Further members of the zip by their names.
    """
    buffer = BytesIO(model)
    contents = {"manifest.json": msgspec.json.format(msgspec.json.encode(manifest), indent=1)}
    contents["labels.txt"] = "".join(f"{name}\n" for name in manifest.classes).encode()
    contents.update(members)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            # Readers of TFLite Metadata map the labels into memory, so they are not compressed.
            entry.compress_type = zipfile.ZIP_STORED if name == "labels.txt" else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, compresslevel=9)
        archive.comment = _SEAL % (len(model), b"")
    return append_seal(buffer.getvalue()[:-SEAL_LENGTH], len(model))


def add_members(bundle: Bundle, members: dict[str, bytes]) -> bytes:
    """Return the bytes of a bundle with members added or replaced; a signature does not carry over."""
    with _open_archive(bundle.content, bundle.source) as archive:
        kept = {name: _read_member(archive, name, bundle.source) for name in archive.namelist()}
    for made in ("manifest.json", "labels.txt"):
        kept.pop(made, None)
    return pack_bundle(bundle.model, bundle.manifest, kept | members)


def append_seal(content: bytes, model_bytes: int) -> bytes:
    """Append the seal to content that ends inside the comment of a zip, whose stated length includes the seal."""
    unsealed = content + (_SEAL % (model_bytes, b""))[:-64]
    digest: str = sha256(unsealed).hexdigest()
    return unsealed + digest.encode()


def write_bundle(path: Path, model: bytes, manifest: Manifest, members: dict[str, bytes]) -> None:
    """Pack a bundle and write it atomically."""
    write_bytes(path, pack_bundle(model, manifest, members))


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle and verify its seal, its flatbuffer identifier and its schema.

    Args:
        path: The path of a bundle, or the name of a shipped one.

    Raises:
        ModelRejected: The bundle is missing or damaged, or its schema is unknown.
    """
    path = find_bundle(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelRejected(f"{path}: cannot be read: not a file")
        if path.stat().st_size > MAX_BYTES:
            raise ModelRejected(f"{path}: over {MAX_BYTES >> 20} MiB; not a bundle")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelRejected(f"{path}: no such bundle") from error
    except (OSError, ValueError) as error:
        raise ModelRejected(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return unpack_bundle(content, str(path))


def unpack_bundle(content: bytes, source: str) -> Bundle:
    """Verify a bundle that is held in memory, as `read_bundle` does. `source` names it in messages."""
    model_bytes = _sealed_model_bytes(content, source)
    if model_bytes > len(content) or content[4:8] != b"TFL3":
        raise ModelRejected(f"{source}: not a TFLite flatbuffer")
    with _open_archive(content, source) as archive:
        document = _read_member(archive, "manifest.json", source, "no manifest in the bundle")
    if len(document) > _MAX_MANIFEST_BYTES:
        raise ModelRejected(f"{source}: its manifest is over {_MAX_MANIFEST_BYTES >> 20} MiB")
    return Bundle(content, model_bytes, _manifest(document, source), source)


@contextlib.contextmanager
def reject_on_error(source: str, reason: str) -> Iterator[None]:
    """Turn every exception that the content of a bundle provokes into `ModelRejected`.

    Args:
        source: The name of the bundle.
        reason: What is wrong with it, in plain words.
    """
    try:
        yield
    except EdgeCTError:
        raise
    except Exception as error:
        raise ModelRejected(f"{source}: {reason}") from error


@contextlib.contextmanager
def _open_archive(content: bytes, source: str) -> Iterator[zipfile.ZipFile]:
    """Open the zip of a bundle, whose directory and sizes are checked first."""
    # `zipfile` finds the end of the directory the same way.
    end = content.rfind(b"PK\5\6", max(0, len(content) - 0xFFFF - _END_OF_DIRECTORY.size))
    if end < 0 or end + _END_OF_DIRECTORY.size > len(content):
        raise ModelRejected(f"{source}: no manifest in the bundle")
    _, _, _, _, entries, size, _, _ = _END_OF_DIRECTORY.unpack_from(content, end)
    if content[max(0, end - 20) : end].startswith(b"PK\6\7"):
        raise ModelRejected(f"{source}: its zip is in the 64-bit format, which bundles do not use")
    if entries > MAX_MEMBERS or size > _MAX_DIRECTORY_BYTES:
        raise ModelRejected(f"{source}: its zip has {entries} members; the limit is {MAX_MEMBERS}")
    with contextlib.ExitStack() as stack:
        with reject_on_error(source, "no manifest in the bundle"):
            archive = stack.enter_context(zipfile.ZipFile(BytesIO(content)))
            members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise ModelRejected(f"{source}: its zip has {len(members)} members; the limit is {MAX_MEMBERS}")
        largest = max((member.file_size for member in members), default=0)
        if largest > MAX_MEMBER_BYTES or sum(member.file_size for member in members) > MAX_INFLATED_BYTES:
            raise ModelRejected(
                f"{source}: the members of its zip inflate to over {MAX_MEMBER_BYTES >> 20} MiB, or to over "
                f"{MAX_INFLATED_BYTES >> 20} MiB together"
            )
        yield archive


def _read_member(archive: zipfile.ZipFile, name: str, source: str, missing: str | None = None) -> bytes:
    missing = missing or f"no {name} in the bundle"
    with reject_on_error(source, missing):
        member = archive.getinfo(name)
        # Decompressors of other methods do not limit what they return at once.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelRejected(f"{source}: {missing} that is stored or deflated")
        with archive.open(member) as file:
            return file.read(member.file_size + 1)


def _sealed_model_bytes(content: bytes, source: str) -> int:
    seal = content[-SEAL_LENGTH:]
    if not seal.startswith(_SEAL[:16]):
        kind = "a TFLite file without a manifest" if content[4:8] == b"TFL3" else "not a bundle"
        raise ModelRejected(f"{source}: {kind}, or damaged at its end; make one with edge-ct convert")
    if sha256(memoryview(content)[:-64]).hexdigest().encode() != content[-64:]:
        raise ModelRejected(f"{source}: damaged: its content does not match its SHA-256 seal; copy the file again")
    if not seal[24:34].isdigit():
        raise ModelRejected(f"{source}: not a bundle: its seal states no length of the flatbuffer")
    return int(seal[24:34])


def _manifest(document: bytes, source: str) -> Manifest:
    try:
        schema = msgspec.json.decode(document, type=dict[str, msgspec.Raw]).get("schema", msgspec.Raw(b"0"))
        if msgspec.json.decode(schema, type=int) > SCHEMA:
            raise ModelRejected(f"{source}: made by a newer edge-ct (schema {bytes(schema).decode()}); update edge-ct")
        manifest = msgspec.json.decode(document, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError, OverflowError) as error:
        raise ModelRejected(f"{source}: bad manifest: {error}") from error
    if not manifest.name.isprintable():
        raise ModelRejected(f"{source}: bad manifest: its name has characters that cannot be printed")
    return manifest
