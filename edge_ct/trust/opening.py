"""Opening a bundle for use: it is read, its signature is verified, and it is tried in a process of its own once.

A trial that a bundle passed is remembered in a small file. An entry means: the bundle with this SHA-256 loaded, and its
golden slices came out as stored, with this runtime on this machine. It says nothing about who made the bundle, and a
signature is verified each time. The file is believed only if it and its folder belong to the user who runs edge-ct and
nobody else can write to them; whoever can write as this user could replace edge-ct itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import msgspec

from .. import __version__
from ..bundle import Bundle, read_bundle
from ..errors import EdgeCTError, ModelRejected
from ..shipped_models import find_bundle, shipped_models
from ..system.files import write_bytes

# Written by `edge-ct device install --key`. Where it exists, every command that takes a bundle demands this signature.
PINNED_KEY = Path("/etc/edge-ct/bundle-key.pub")
TRIALS = "golden.json"
_MAX_REMEMBERED = 64
_MAX_FILE_BYTES = 16 << 10
_SEAL_DIGITS = 64
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Trials(msgspec.Struct, frozen=True):
    """The trials that bundles have passed.

    Attributes:
        runtime: Identifies edge-ct, the runtime and the machine.
        passed: SHA-256 of each bundle, in hexadecimal digits, the latest one last.
    """

    runtime: str
    passed: tuple[str, ...]


def open_bundle(model: Path | str | None = None, key: Path | None = None, memory: Path | None = None) -> Bundle:
    """Read a bundle and check that it may be used.

    Args:
        model: The path of a bundle, or the name of a shipped one; None is the default shipped bundle.
        key: Public key that the bundle must be signed with; by default the pinned key, if there is one.
        memory: Folder that remembers passed trials; None tries the bundle in any case.

    Returns:
        The bundle; it is a shipped one, or has passed a trial on this machine.

    Raises:
        ModelRejected: The bundle is missing or damaged, is not signed with the key, or failed its trial.
        MissingExtra: A signature must be verified and cryptography is not installed.
    """
    bundle = read_bundle(find_bundle(model))
    check_signature(bundle, key)
    if not is_shipped(bundle):
        try_once(bundle, memory)
    return bundle


def check_signature(bundle: Bundle, key: Path | None = None) -> str | None:
    """Verify the signature of a bundle if one is demanded.

    Args:
        bundle: The bundle.
        key: The public key; by default the pinned key, if there is one.

    Returns:
        Fingerprint of the key; None if no signature is demanded.

    Raises:
        ModelRejected: The bundle was not signed with this key.
    """
    if key is None:
        if not os.path.lexists(PINNED_KEY):
            return None
        key = PINNED_KEY
    from .signature import verify_signature

    try:
        return verify_signature(bundle, key)
    except ModelRejected as error:
        if key is PINNED_KEY:
            raise ModelRejected(f"{error} ({PINNED_KEY} states which key is demanded on this device)") from error
        raise


def is_shipped(bundle: Bundle) -> bool:
    """Return whether a bundle has the content of a shipped one, wherever it lies. Its own seal must be verified."""
    return any(_stated_seal(path) == bundle.seal for path in shipped_models().values())


def try_once(bundle: Bundle, memory: Path | None, again: bool = False) -> bool:
    """Try a bundle, unless it has passed before.

    Args:
        bundle: The bundle.
        memory: Folder that remembers passed trials; None remembers nothing.
        again: Try the bundle even if it has passed before.

    Returns:
        Whether the bundle had passed before and was not tried now.

    Raises:
        ModelRejected: The bundle failed.
    """
    runtime = describe_runtime()
    known = _read_trials(memory / TRIALS) if memory else None
    passed = known.passed if known and known.runtime == runtime else ()
    if bundle.seal in passed and not again:
        return True
    from .trial import try_bundle

    try_bundle(bundle)
    if memory:
        _remember(memory / TRIALS, Trials(runtime, (*passed, bundle.seal)[-_MAX_REMEMBERED:]))
    return False


def describe_runtime() -> str:
    """Return what identifies the installation: versions of edge-ct and of the runtime's files, and the machine."""
    parts = [__version__, os.uname().machine if hasattr(os, "uname") else ""]
    for name in ("ai_edge_litert", "tflite_runtime"):
        spec = find_spec(name)
        if spec and spec.origin:
            # Reading the version of a package would import a mail parser.
            parts.append(f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}")
    return ", ".join(parts)


def _stated_seal(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(-_SEAL_DIGITS, os.SEEK_END)
        return file.read().decode("ascii", "replace")
    return ""


def _read_trials(path: Path) -> Trials | None:
    """Return the remembered trials; None if there are none, or if somebody else could have written them."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _NO_LINKS), "rb") as file:
            status, folder = os.fstat(file.fileno()), path.parent.stat()
            if not all(_only_ours(one) for one in (status, folder)) or not stat.S_ISREG(status.st_mode):
                return None
            return msgspec.json.decode(file.read(_MAX_FILE_BYTES), type=Trials)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None


def _only_ours(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _remember(path: Path, trials: Trials) -> None:
    """Write the trials; where that is not possible, the bundle is tried again the next time."""
    with contextlib.suppress(OSError, EdgeCTError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bytes(path, msgspec.json.encode(trials))
        path.chmod(0o600)
