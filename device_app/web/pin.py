"""The PIN of `serve --lan`: stored as a scrypt hash, with a growing delay after wrong attempts."""

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

PIN_FILE = "serve-pin.json"
DIGITS = 6
MIN_DIGITS, MAX_DIGITS = 6, 32
_N, _R, _P = 1 << 14, 8, 1  # 16 MiB and about 50 ms for each attempt.
_MAX_ADDRESSES = 1024


class PinHash(msgspec.Struct, frozen=True):
    """scrypt hash of a PIN (RFC 7914); salt and digest are hexadecimal."""

    salt: str
    digest: str
    n: int = _N
    r: int = _R
    p: int = _P

    def matches(self, pin: str) -> bool:
        """Return whether `pin` has this hash, in constant time."""
        digest = hashlib.scrypt(pin.encode(), salt=bytes.fromhex(self.salt), n=self.n, r=self.r, p=self.p)
        return hmac.compare_digest(digest.hex(), self.digest)


def random_pin() -> str:
    """Return a PIN of six random digits."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def hash_pin(pin: str) -> PinHash:
    """Return the hash of a PIN under a new salt.

    Raises:
        EdgeCTError: The PIN is not 6 to 32 digits.
    """
    if not (pin.isascii() and pin.isdigit() and MIN_DIGITS <= len(pin) <= MAX_DIGITS):
        raise EdgeCTError(f"a PIN has {MIN_DIGITS} to {MAX_DIGITS} digits")
    salt = secrets.token_bytes(16)
    return PinHash(salt.hex(), hashlib.scrypt(pin.encode(), salt=salt, n=_N, r=_R, p=_P).hex())


def write_hash(path: Path, pin: PinHash) -> None:
    """Write a hash for later starts, readable by its owner only."""
    with replace_atomically(path) as temporary:
        temporary.touch(0o600)
        temporary.write_bytes(msgspec.json.encode(pin))


def read_hash(path: Path) -> PinHash | None:
    """Return the hash that an earlier start wrote; None if there is no file.

    Raises:
        EdgeCTError: The file is damaged.
    """
    try:
        pin = msgspec.json.decode(path.read_bytes(), type=PinHash)
        bytes.fromhex(pin.salt), bytes.fromhex(pin.digest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise EdgeCTError(
            f"{path}: the PIN cannot be read, its file is damaged or protected; set a new one with --pin"
        ) from error
    if (pin.n, pin.r, pin.p) != (_N, _R, _P):
        raise EdgeCTError(f"{path}: the PIN was hashed with other parameters; set a new one with --pin")
    return pin


def set_up_pin(path: Path, given: str | None) -> tuple[PinHash, str | None]:
    """Choose the PIN: the given one, else that of an earlier start, else a new random one.

    Args:
        path: The file that stores the hash.
        given: The PIN of the command line.

    Returns:
        The hash, and the PIN itself unless it is that of an earlier start.
    """
    if given is None and (stored := read_hash(path)):
        return stored, None
    pin = given or random_pin()
    digest = hash_pin(pin)
    write_hash(path, digest)
    return digest, pin


class _Backoff:
    """Counts wrong attempts: no delay for the first `free` ones, then a delay that doubles up to `longest` seconds."""

    def __init__(self, free: int, longest: float) -> None:
        self.free, self.longest = free, longest
        self.failures, self.until, self.last = 0, 0.0, 0.0

    def fail(self, now: float) -> None:
        # Half of the counted failures are forgiven each hour.
        self.failures = (self.failures >> min(int((now - self.last) / 3600), 30)) + 1 if self.failures else 1
        self.last = now
        over = self.failures - self.free
        self.until = now + min(self.longest, 2.0 ** min(over, 20)) if over >= 0 else now


class PinGate:
    """Checks PINs, one at a time, so that neither threads nor scrypt's memory help an attacker.

    After three wrong attempts an address waits 1, 2, 4, ... up to 900 seconds. Once twenty attempts have failed
    anywhere, all addresses that have used their three attempts also share a delay of up to 30 seconds: about 120
    attempts an hour at a million PINs. The first three attempts of an address do not share it, so that whoever has the
    PIN signs in while others guess; after a thousand wrong first attempts within an hour, from over three hundred
    addresses, they share a delay too.
    """

    def __init__(self, pin: PinHash, clock: Callable[[], float] = time.monotonic) -> None:
        """Guard with the hash of a PIN; `clock` returns seconds."""
        self._pin, self._clock = pin, clock
        self._lock = threading.Lock()
        self._all = _Backoff(20, 30)
        self._first = _Backoff(1000, 30)
        self._by_address: OrderedDict[str, _Backoff] = OrderedDict()

    def check(self, address: str, pin: str) -> float | None:
        """Check a PIN; an attempt that comes too early is refused unchecked.

        Returns:
            None if the PIN is right, else the seconds to wait before the next attempt, 0 or more.
        """
        with self._lock:
            now = self._clock()
            backoff = self._by_address.setdefault(address, _Backoff(3, 900))
            self._by_address.move_to_end(address)
            while len(self._by_address) > _MAX_ADDRESSES:
                self._by_address.popitem(last=False)
            shared = self._first if backoff.failures < backoff.free else self._all
            wait = max(backoff.until, shared.until) - now
            if wait > 0:
                return wait
            if len(pin) <= MAX_DIGITS and self._pin.matches(pin):
                del self._by_address[address]
                return None
            backoff.fail(now)
            self._all.fail(now)
            if shared is self._first:
                self._first.fail(now)
            shared = self._first if backoff.failures < backoff.free else self._all
            return max(backoff.until, shared.until, now) - now
