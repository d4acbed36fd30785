"""Bundles that were damaged, or made to do harm, and then sealed again: anybody can seal."""

import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import msgspec

from edge_ct.bundle import SEAL_LENGTH, Bundle, append_seal

from .hostile import EXTREMES

EXTREME_NUMBERS = (0, -1, 1, 2**31 - 1, -(2**31), 2**40, 1e308, -1e308, 1e-300, 0.5)


def members_of(bundle: Bundle) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(bundle.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(model: bytes, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A bundle around any flatbuffer and any members, with a right seal."""
    buffer = BytesIO()
    buffer.write(model)
    with zipfile.ZipFile(buffer, "a", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b" " * SEAL_LENGTH
    return append_seal(buffer.getvalue()[:-SEAL_LENGTH], len(model))


def resealed(content: bytes, model_bytes: int) -> bytes:
    """Any bytes in front of a right seal; the length of the comment is right as long as nobody changes it."""
    return append_seal(content[:-SEAL_LENGTH], model_bytes)


def inflating(bundle: Bundle, name: str = "manifest.json", size: int = 1 << 30) -> bytes:
    """A member that states its size and inflates to a gigabyte."""
    buffer = BytesIO()
    buffer.write(bundle.model)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for known, content in members_of(bundle).items():
            if known != name:
                archive.writestr(known, content)
        with archive.open(name, "w") as file:
            for _ in range(size >> 20):
                file.write(b" " * (1 << 20))
        archive.comment = b" " * SEAL_LENGTH
    return append_seal(buffer.getvalue()[:-SEAL_LENGTH], bundle.model_bytes)


def understated(bundle: Bundle, name: str = "manifest.json") -> bytes:
    """A member that states a small size and inflates to a gigabyte."""
    data = bytearray(inflating(bundle, name))
    end = data.rfind(b"PK\5\6")
    start = struct.unpack_from("<I", data, end + 16)[0]
    at = data.index(name.encode(), start) - 46
    assert data[at : at + 4] == b"PK\1\2"
    struct.pack_into("<I", data, at + 24, 2000)
    return resealed(bytes(data), bundle.model_bytes)


def many_members(bundle: Bundle, count: int = 60_000) -> bytes:
    return sealed(bundle.model, members_of(bundle) | {f"x{number}": b"" for number in range(count)})


def by_method(bundle: Bundle, method: int) -> bytes:
    return sealed(bundle.model, members_of(bundle), method)


def with_manifest(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A bundle whose manifest was changed by a function."""
    members = members_of(bundle)
    document = json.loads(members["manifest.json"])
    change(document)
    return sealed(bundle.model, members | {"manifest.json": json.dumps(document).encode()})


def mutations(bundle: Bundle, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged flatbuffers, numbers of the manifest, members and zips by turns."""
    random_, members = random.Random(seed), members_of(bundle)
    kinds = (_damage_graph, _damage_graph, _damage_graph, _damage_manifest, _damage_member, _damage_zip)
    for number in range(count):
        yield kinds[number % len(kinds)](bundle, dict(members), random_)


def _damage_graph(bundle: Bundle, members: dict[str, bytes], random_: random.Random) -> bytes:
    model = bytearray(bundle.model)
    structure = min(len(model), 40_000)
    for _ in range(random_.choice((1, 1, 2, 4, 16, 64))):
        # The tables of operators and tensors lie at both ends of a flatbuffer, and weights between them.
        near = random_.randrange(structure)
        position = random_.choice((near, len(model) - 1 - near, random_.randrange(len(model))))
        _damage(model, position, random_)
    return sealed(bytes(model), members)


def _damage_manifest(bundle: Bundle, members: dict[str, bytes], random_: random.Random) -> bytes:
    document = msgspec.json.decode(members["manifest.json"])
    for _ in range(random_.choice((1, 1, 2, 5))):
        _change_value(document, random_)
    return sealed(bundle.model, members | {"manifest.json": json.dumps(document).encode()})


def _change_value(node: Any, random_: random.Random) -> None:
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = random_.choice(keys)
    value = node[key]
    if isinstance(value, dict | list) and value and random_.random() < 0.9:
        _change_value(value, random_)
    elif isinstance(value, int | float) and random_.random() < 0.8:
        node[key] = random_.choice((*EXTREME_NUMBERS, value + 1, value * 2, -value))
    else:
        node[key] = random_.choice((None, "", "x" * 1000, 7, [], {}, [1, 2, 3], "golden/0.png", "manifest.json"))


def _damage_member(bundle: Bundle, members: dict[str, bytes], random_: random.Random) -> bytes:
    name = random_.choice([name for name in members if members[name]])
    content = bytearray(members[name])
    for _ in range(random_.choice((1, 1, 4))):
        _damage(content, random_.randrange(len(content)), random_)
    return sealed(bundle.model, members | {name: bytes(content)})


def _damage_zip(bundle: Bundle, members: dict[str, bytes], random_: random.Random) -> bytes:
    data = bytearray(bundle.content)
    for _ in range(random_.choice((1, 1, 2, 4))):
        end = len(data) - SEAL_LENGTH
        # Half of all changes hit the directory, which is the last thing before the seal.
        start = bundle.model_bytes if random_.random() < 0.5 else max(bundle.model_bytes, end - 700)
        _damage(data, random_.randrange(start, end), random_)
    return resealed(bytes(data), random_.choice((bundle.model_bytes, bundle.model_bytes, 0, 2**33)))


def _damage(data: bytearray, position: int, random_: random.Random) -> None:
    change = random_.randrange(4)
    if change == 0:
        data[position] ^= 1 << random_.randrange(8)
    elif change == 1:
        data[position] = random_.randrange(256)
    elif change == 2:
        extreme = random_.choice(EXTREMES)
        data[position : position + len(extreme)] = extreme[: len(data) - position]
    else:
        other = random_.randrange(len(data))
        data[position : position + 4] = data[other : other + 4][: len(data) - position]
