"""The PIN of `serve --lan`: kept as a scrypt hash alone, guesses slowed down for each address and for all together."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import replace_atomically

FILE = "serve-pin.json"
DIGITS = 6
MIN_DIGITS, MAX_DIGITS = 6, 32
_N, _R, _P = 1 << 14, 8, 1  # 16 MiB and some 50 ms a guess
_ADDRESSES = 1024


class PinHash(msgspec.Struct, frozen=True):
    """scrypt (RFC 7914) of a PIN; salt and digest in hexadecimal."""

    salt: str
    digest: str
    n: int = _N
    r: int = _R
    p: int = _P

    def matches(self, pin: str) -> bool:
        """Whether `pin` is the one; takes the same time either way."""
        found = hashlib.scrypt(pin.encode(), salt=bytes.fromhex(self.salt), n=self.n, r=self.r, p=self.p)
        return hmac.compare_digest(found.hex(), self.digest)


def make() -> str:
    """A PIN of six random digits."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def hashed(pin: str) -> PinHash:
    """The hash of `pin` under a new salt. Raises `EdgeCTError` for a PIN that is not 6 to 32 digits."""
    if not (pin.isascii() and pin.isdigit() and MIN_DIGITS <= len(pin) <= MAX_DIGITS):
        raise EdgeCTError(f"a PIN has {MIN_DIGITS} to {MAX_DIGITS} digits")
    salt = secrets.token_bytes(16)
    return PinHash(salt.hex(), hashlib.scrypt(pin.encode(), salt=salt, n=_N, r=_R, p=_P).hex())


def keep(path: Path, pin: PinHash) -> None:
    """Write the hash for later starts, readable by its owner alone."""
    with replace_atomically(path) as temporary:
        temporary.touch(0o600)
        temporary.write_bytes(msgspec.json.encode(pin))


def kept(path: Path) -> PinHash | None:
    """The hash that an earlier start wrote, None where there is none. Raises `EdgeCTError` for a damaged one."""
    try:
        pin = msgspec.json.decode(path.read_bytes(), type=PinHash)
        bytes.fromhex(pin.salt), bytes.fromhex(pin.digest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise EdgeCTError(f"{path}: no PIN can be read from it: {error}; give a new one with --pin") from error
    if (pin.n, pin.r, pin.p) != (_N, _R, _P):
        raise EdgeCTError(f"{path}: made with other costs; give a new PIN with --pin")
    return pin


class _Backoff:
    """Failures, and the moment from which the next guess is heard: nothing for `free` failures, then doubling."""

    def __init__(self, free: int, longest: float) -> None:
        self.free, self.longest = free, longest
        self.failures, self.until, self.last = 0, 0.0, 0.0

    def fail(self, now: float) -> None:
        # Half of what was held against it is forgotten each hour.
        self.failures = (self.failures >> min(int((now - self.last) / 3600), 30)) + 1 if self.failures else 1
        self.last = now
        over = self.failures - self.free
        self.until = now + min(self.longest, 2.0 ** min(over, 20)) if over >= 0 else now


class Gate:
    """Hears guesses one at a time, so that neither threads nor scrypt's memory help a guesser.

    After three wrong ones an address waits 1, 2, 4, ... up to 900 seconds; after twenty from anywhere all wait, up to
    30 seconds: some 120 guesses an hour at a million PINs, while whoever knows the PIN still gets in.
    """

    def __init__(self, pin: PinHash, clock: Callable[[], float] = time.monotonic) -> None:
        self._pin, self._clock = pin, clock
        self._lock = threading.Lock()
        self._all = _Backoff(20, 30)
        self._by_address: OrderedDict[str, _Backoff] = OrderedDict()

    def guess(self, address: str, pin: str) -> float | None:
        """None where `pin` is right; else the seconds to wait before the next guess is heard, 0 or more.

        A guess that comes too early is not looked at, right or wrong.
        """
        with self._lock:
            now = self._clock()
            own = self._by_address.setdefault(address, _Backoff(3, 900))
            self._by_address.move_to_end(address)
            while len(self._by_address) > _ADDRESSES:
                self._by_address.popitem(last=False)
            wait = max(own.until, self._all.until) - now
            if wait > 0:
                return wait
            if len(pin) <= MAX_DIGITS and self._pin.matches(pin):
                del self._by_address[address]
                return None
            own.fail(now)
            self._all.fail(now)
            return max(own.until, self._all.until, now) - now


def establish(path: Path, given: str | None) -> tuple[PinHash, str | None]:
    """The PIN to serve with: the one given, else the one of an earlier start, else a new one.

    Returns its hash, and the PIN itself where it is new and must be told.
    """
    if given is None and (old := kept(path)):
        return old, None
    pin = given or make()
    digest = hashed(pin)
    keep(path, digest)
    return digest, pin
