"""The PIN: its hash, what is written of it, and how guessing is slowed down."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct.device_app.web.pin import PIN_FILE, PinGate, PinHash, _Backoff, hash_pin, random_pin, set_up_pin
from edge_ct.errors import EdgeCTError

RIGHT = "493817"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def digest() -> PinHash:
    return hash_pin(RIGHT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(digest: PinHash, clock: Clock) -> PinGate:
    return PinGate(digest, clock)


def test_the_hash_is_scrypt_as_the_standard_library_has_it(digest: PinHash) -> None:
    again = hashlib.scrypt(RIGHT.encode(), salt=bytes.fromhex(digest.salt), n=16384, r=8, p=1)
    assert digest.digest == again.hex()
    assert digest.matches(RIGHT)
    assert not digest.matches("493818")
    assert hash_pin(RIGHT).salt != digest.salt


def test_made_pins_are_six_digits_and_differ() -> None:
    made = {random_pin() for _ in range(50)}
    assert all(len(pin) == 6 and pin.isdigit() for pin in made)
    assert len(made) > 40


@pytest.mark.parametrize("bad", ["", "12345", "12345a", "1" * 33, "１２３４５６", " 123456"])
def test_what_is_no_pin_is_refused(bad: str) -> None:
    with pytest.raises(EdgeCTError, match="6 to 32 digits"):
        hash_pin(bad)


def test_only_the_hash_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / PIN_FILE
    digest, told = set_up_pin(path, None)
    assert told is not None
    assert digest.matches(told)
    assert path.stat().st_mode & 0o777 == 0o600
    assert told not in path.read_text()
    again, told_again = set_up_pin(path, None)
    assert (again, told_again) == (digest, None)
    other, _ = set_up_pin(path, RIGHT)
    assert other.matches(RIGHT)
    assert set_up_pin(path, None) == (other, None)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"salt":"zz","digest":"00"}'])
def test_a_damaged_file_is_said_to_be_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / PIN_FILE
    path.write_bytes(content)
    with pytest.raises(EdgeCTError, match="PIN cannot be read"):
        set_up_pin(path, None)


def test_costs_are_not_taken_from_the_file(tmp_path: Path, digest: PinHash) -> None:
    path = tmp_path / PIN_FILE
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(digest, n=2)))
    with pytest.raises(EdgeCTError, match="other parameters"):
        set_up_pin(path, None)


def test_an_address_waits_longer_each_time(gate: PinGate, clock: Clock) -> None:
    waits = []
    for _ in range(8):
        wait = gate.check("10.0.0.1", "000000")
        assert wait is not None
        waits.append(wait)
        clock.now += wait
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32]
    assert gate.check("10.0.0.1", RIGHT) is None


def test_a_guess_that_comes_too_early_is_not_looked_at(gate: PinGate, clock: Clock) -> None:
    for _ in range(3):
        gate.check("10.0.0.1", "000000")
    assert gate.check("10.0.0.1", RIGHT) == 1
    clock.now += 0.5
    assert gate.check("10.0.0.1", RIGHT) == 0.5
    assert gate.check("10.0.0.2", RIGHT) is None
    clock.now += 0.5
    assert gate.check("10.0.0.1", RIGHT) is None


def test_many_addresses_are_slowed_down_together(gate: PinGate, clock: Clock) -> None:
    """Once each has used its own attempts."""
    addresses = [f"10.0.0.{i}" for i in range(10)]
    for _ in range(3):
        for address in addresses:
            gate.check(address, "000000")
    attempts = 0
    begun = clock.now
    while clock.now < begun + 3600:
        for address in addresses:
            before = gate._all.failures
            gate.check(address, "000000")
            attempts += gate._all.failures > before
        clock.now += 1
    assert 60 < attempts < 130


def test_guesses_from_thirty_addresses_do_not_keep_out_who_has_the_pin(gate: PinGate, clock: Clock) -> None:
    for _ in range(50):
        for i in range(30):
            gate.check(f"10.0.0.{i}", "000000")
        clock.now += 5
    assert gate.check("10.0.1.1", "000001") == 0  # mistyped
    assert gate.check("10.0.1.1", RIGHT) is None


def test_guesses_from_any_number_of_addresses_are_slowed_down_in_the_end(gate: PinGate, clock: Clock) -> None:
    gate._pin = PinHash("00", "00" * 64, n=2)  # which costs little
    waits = [gate.check(f"10.0.{i // 250}.{i % 250}", "000000") for i in range(1001)]
    assert waits[:999] == [0] * 999
    assert gate.check("10.9.9.9", "000000") is not None
    clock.now += 1
    assert (gate.check("10.9.9.8", "000000") or 0) > 0


def test_an_hour_forgives_half(gate: PinGate, clock: Clock) -> None:
    for _ in range(6):
        clock.now += gate.check("10.0.0.1", "000000") or 0
    clock.now += 2 * 3600
    assert gate.check("10.0.0.1", "000000") == 0


def test_memory_of_addresses_is_bounded(gate: PinGate, clock: Clock) -> None:
    gate._all.free = 10**9
    for i in range(1100):
        gate._by_address[f"a{i}"] = _Backoff(3, 900)
    gate.check("b", RIGHT)
    assert len(gate._by_address) <= 1024


@settings(max_examples=15)
@given(st.text(max_size=60))
def test_any_text_is_a_wrong_guess(guess: str) -> None:
    gate = PinGate(PinHash("00", "00" * 64), Clock())
    assert gate.check("10.0.0.1", guess) == 0
