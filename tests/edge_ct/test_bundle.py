"""The bundle: what is packed is read, any tool opens it, and no damaged byte goes unnoticed."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct.bundle import Bundle, pack_bundle, read_bundle, unpack_bundle, write_bundle
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.manifest import Manifest

SEAL = b"edge-ct bundle 1, model %010d bytes, sha256 "
SEAL_LENGTH = len(SEAL % 0) + 64


@pytest.fixture
def tiny(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def small(tiny: Bundle) -> bytes:
    """A bundle around a stub of 600 bytes, small enough to try every byte of it."""
    stub = b"\x1c\0\0\0TFL3" + random.Random(1).randbytes(592)
    return pack_bundle(stub, tiny.manifest, {"split.csv": b"sha256,part\n"})


@pytest.fixture
def sealed_by_hand() -> Callable[..., bytes]:
    """A bundle as its docstring describes the format, written without `pack`: any member, and a right seal."""

    def seal(model: bytes, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
        buffer = BytesIO()
        buffer.write(model)
        with zipfile.ZipFile(buffer, "a", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            archive.comment = SEAL % len(model) + b"0" * 64
        unsealed = buffer.getvalue()[:-64]
        return unsealed + hashlib.sha256(unsealed).hexdigest().encode()

    return seal


def document(manifest: Manifest) -> dict:
    return json.loads(msgspec.json.encode(manifest))


def rejected(content: bytes, message: str) -> None:
    with pytest.raises(ModelRejected, match=message) as caught:
        unpack_bundle(content, "some.tflite")
    assert str(caught.value).startswith("some.tflite: ")
    assert "\n" not in str(caught.value)


def test_what_is_packed_is_read(tiny: Bundle, tmp_path: Path) -> None:
    members = {"split.csv": b"sha256,part\n", "golden/0.png": tiny.member("golden/0.png"), "empty": b""}
    write_bundle(tmp_path / "deep" / "b.tflite", tiny.model, tiny.manifest, members)
    again = read_bundle(str(tmp_path / "deep" / "b.tflite"))
    assert again.model == tiny.model
    assert again.manifest == tiny.manifest
    assert again.source == str(tmp_path / "deep" / "b.tflite")
    assert {name: again.member(name) for name in members} == members
    assert again.member("labels.txt") == b"non-COVID\nCOVID\n"
    assert json.loads(again.member("manifest.json")) == document(tiny.manifest)


def test_same_input_same_bytes(tiny: Bundle) -> None:
    members = {"split.csv": b"a,b\n"}
    first, second = (pack_bundle(tiny.model, tiny.manifest, members) for _ in range(2))
    assert first == second
    assert first != pack_bundle(tiny.model, tiny.manifest, {"split.csv": b"a,c\n"})


def test_the_flatbuffer_comes_first_and_the_seal_last(tiny: Bundle) -> None:
    content = pack_bundle(tiny.model, tiny.manifest, {})
    assert content.startswith(tiny.model)
    assert content[-SEAL_LENGTH:-64] == SEAL % len(tiny.model)
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()


def test_a_bundle_sealed_by_hand_is_read(tiny: Bundle, sealed_by_hand: Callable[..., bytes]) -> None:
    content = sealed_by_hand(tiny.model, {"manifest.json": msgspec.json.encode(tiny.manifest)})
    assert unpack_bundle(content, "x").manifest == tiny.manifest


def test_identity_is_the_name_and_the_start_of_the_seal(tiny: Bundle) -> None:
    checksum = hashlib.sha256(tiny.content[:-64]).hexdigest()
    assert tiny.identity == f"customcnn-32-int8@{checksum[:8]}"


def test_missing_member_is_named(tiny: Bundle) -> None:
    with pytest.raises(ModelRejected, match=r"no golden/99\.png in the bundle"):
        tiny.member("golden/99.png")


def test_one_changed_byte_anywhere_is_noticed(small: bytes) -> None:
    assert unpack_bundle(small, "whole")
    changed, flips = bytearray(small), random.Random(2)
    for position in range(len(small)):
        flip = flips.randrange(1, 256)
        changed[position] ^= flip
        with pytest.raises(ModelRejected):
            unpack_bundle(bytes(changed), "changed")
        changed[position] ^= flip
    assert bytes(changed) == small


def test_one_changed_byte_of_a_real_bundle_is_noticed(tiny: Bundle) -> None:
    """The last 4 KiB, where the zip's directory and the seal are, and 200 places before."""
    content, draw = bytearray(tiny.content), random.Random(3)
    last = range(len(content) - 4096, len(content), 5)
    for position in [*last, *draw.sample(range(len(content) - 4096), 200), 0, 4, 7]:
        content[position] ^= 1 << draw.randrange(8)
        with pytest.raises(ModelRejected):
            unpack_bundle(bytes(content), "changed")
        content[position] = tiny.content[position]


def test_one_changed_bit_in_the_seal_is_noticed(small: bytes) -> None:
    for position in range(len(small) - SEAL_LENGTH, len(small)):
        for bit in range(8):
            changed = bytearray(small)
            changed[position] ^= 1 << bit
            with pytest.raises(ModelRejected):
                unpack_bundle(bytes(changed), "changed")


def test_truncation_anywhere_is_noticed(small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(ModelRejected):
            unpack_bundle(small[:length], "cut")
        if length:
            with pytest.raises(ModelRejected):
                unpack_bundle(small[length:], "beheaded")


@pytest.mark.parametrize("garbage", [b"\0", b"\n", b"garbage" * 100, bytes(70_000)])
def test_appended_and_prepended_garbage_is_noticed(small: bytes, garbage: bytes) -> None:
    rejected(small + garbage, "damaged at its end|seal")
    rejected(garbage + small, "SHA-256 seal")


def test_two_bundles_in_a_row_are_noticed(small: bytes) -> None:
    rejected(small + small, "SHA-256 seal")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a bundle"),
        (b"x", "not a bundle"),
        (b"not a bundle at all" * 50, "not a bundle"),
        (b"\x1c\0\0\0TFL3" + bytes(5000), "a TFLite file without a manifest"),
    ],
)
def test_what_is_no_bundle_is_refused_by_what_it_is(content: bytes, message: str) -> None:
    rejected(content, message)


def test_plain_flatbuffer_is_refused(tiny: Bundle) -> None:
    rejected(tiny.model, "a TFLite file without a manifest.*edge-ct convert")


def test_newer_schema_is_named_as_such(tiny: Bundle, sealed_by_hand: Callable[..., bytes]) -> None:
    newer = document(tiny.manifest) | {"schema": 3, "something": "new"}
    content = sealed_by_hand(tiny.model, {"manifest.json": json.dumps(newer).encode()})
    rejected(content, r"newer edge-ct \(schema 3\)")


def test_unknown_fields_of_the_same_schema_are_passed_over(tiny: Bundle, sealed_by_hand: Callable[..., bytes]) -> None:
    """Adding an optional field keeps the version, so an older edge-ct must read it."""
    more = document(tiny.manifest) | {"added": [1, 2]}
    content = sealed_by_hand(tiny.model, {"manifest.json": json.dumps(more).encode()})
    assert unpack_bundle(content, "x").manifest == tiny.manifest


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"42",
        b"{}",
        b'{"schema": 1}',
        b'{"schema": "two"}',
        b'{"schema": null}',
        b'{"schema": 0}',
        b'{"schema": 1.5}',
        b'{"schema": 1, "name": "\xff\xfe"}',
        b'{"\xff": 1}',
        b"\xef\xbb\xbf{}",
        b"\x00" * 100,
        b'{"schema": 1, "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_bad_manifest_is_refused(tiny: Bundle, sealed_by_hand: Callable[..., bytes], text: bytes) -> None:
    rejected(sealed_by_hand(tiny.model, {"manifest.json": text}), "bad manifest")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("calibration", "slope"), 0),
        (("calibration", "slope"), -1.5),
        (("operating_point", "threshold"), 1.5),
        (("zone", "positive_from"), -0.1),
        (("zone", "negatives"), -1),
        (("tensors", "input", "dtype"), "complex64"),
        (("tensors", "logits", "scale"), 0),
        (("classes",), ["one"]),
        (("classes",), ["a", "b", "c"]),
        (("variant",), "int4"),
        (("preprocess", "size"), "224"),
        (("preprocess", "size"), 0),
        (("preprocess", "size"), -32),
        (("preprocess", "resize"), "nearest"),
        (("golden",), [{"input": 3, "logits": []}]),
    ],
)
def test_manifest_with_an_impossible_value_is_refused(
    tiny: Bundle, sealed_by_hand: Callable[..., bytes], path: tuple[str, ...], value: object
) -> None:
    changed = document(tiny.manifest)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    assert path[-1] in inner
    inner[path[-1]] = value
    rejected(sealed_by_hand(tiny.model, {"manifest.json": json.dumps(changed).encode()}), "bad manifest")


def test_sealed_zip_without_a_manifest_is_refused(tiny: Bundle, sealed_by_hand: Callable[..., bytes]) -> None:
    rejected(sealed_by_hand(tiny.model, {"labels.txt": b"a\nb\n"}), "no manifest in the bundle")


def test_sealed_file_that_is_no_flatbuffer_is_refused(tiny: Bundle, sealed_by_hand: Callable[..., bytes]) -> None:
    content = sealed_by_hand(b"not a flatbuffer", {"manifest.json": msgspec.json.encode(tiny.manifest)})
    rejected(content, "not a TFLite flatbuffer")


def resealed(content: bytes) -> bytes:
    return content[:-64] + hashlib.sha256(content[:-64]).hexdigest().encode()


def test_sealed_file_whose_manifest_does_not_inflate_is_refused(
    tiny: Bundle, sealed_by_hand: Callable[..., bytes]
) -> None:
    content = bytearray(sealed_by_hand(tiny.model, {"manifest.json": msgspec.json.encode(tiny.manifest)}))
    # The member's data follow its local header: 30 bytes and the name.
    start = len(tiny.model) + 30 + len("manifest.json")
    for damage in (b"\xff" * 8, bytes(8)):
        content[start + 40 : start + 48] = damage
        rejected(resealed(bytes(content)), "manifest")


def test_sealed_file_whose_seal_tells_no_length_is_refused(small: bytes) -> None:
    at = len(small) - SEAL_LENGTH + 24
    assert small[at : at + 10] == b"0000000600"
    rejected(resealed(small[:at] + b"?" * 10 + small[at + 10 :]), "some.tflite")


def test_missing_file_directory_and_empty_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tflite").touch()
    for path, message in (
        (tmp_path / "none.tflite", "no such bundle"),
        (tmp_path, "cannot be read"),
        (tmp_path / "empty.tflite", "not a bundle"),
        (tmp_path / "empty.tflite" / "below", "cannot be read"),
        (tmp_path / ("n" * 300), "cannot be read"),
    ):
        with pytest.raises(ModelRejected, match=message) as caught:
            read_bundle(path)
        assert str(path) in str(caught.value)


def test_path_with_a_null_byte_is_refused() -> None:
    with pytest.raises(ModelRejected):
        read_bundle("a\0b.tflite")


def test_file_over_a_gibibyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "giant.tflite"
    path.touch()
    os.truncate(path, (1 << 30) + 1)
    with pytest.raises(ModelRejected, match="over 1024 MiB"):
        read_bundle(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.tflite"
    os.mkfifo(path)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            read_bundle(path)
        except BaseException as error:
            caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(2)
    waited = reader.is_alive()
    if waited:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        reader.join(5)
    assert not waited
    assert [type(error) for error in caught] == [ModelRejected]


def test_zipfile_lists_and_checks_it(tiny_bundle: Path) -> None:
    with zipfile.ZipFile(tiny_bundle) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[:2] == ["manifest.json", "labels.txt"]
        assert sorted(names[2:]) == ["golden/0.png", "golden/1.png", "split.csv"]


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip here")
def test_unzip_lists_it(tiny_bundle: Path) -> None:
    listed = subprocess.run(["unzip", "-l", tiny_bundle], capture_output=True, text=True, check=False)
    # 1 is a warning, which a file with something before the zip may get; the listing is complete all the same.
    assert listed.returncode in (0, 1)
    for name in ("manifest.json", "labels.txt", "split.csv", "golden/0.png"):
        assert name in listed.stdout


def test_plain_litert_loads_the_whole_file(tiny_bundle: Path, tiny: Bundle) -> None:
    from ai_edge_litert.interpreter import Interpreter

    outputs = []
    for loaded in (Interpreter(model_path=str(tiny_bundle)), Interpreter(model_content=tiny.model)):
        loaded.allocate_tensors()
        detail = loaded.get_input_details()[0]
        assert tuple(detail["shape"]) == (1, 32, 32, 1)
        loaded.set_tensor(detail["index"], np.arange(1024, dtype=np.uint8).reshape(1, 32, 32, 1))
        loaded.invoke()
        outputs.append([loaded.get_tensor(own["index"]).tobytes() for own in loaded.get_output_details()])
    assert outputs[0] == outputs[1]


def test_write_leaves_nothing_behind_on_failure(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.tflite"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EdgeCTError, match="No space left"):
        write_bundle(path, tiny.model, tiny.manifest, {})
    assert [own.name for own in tmp_path.iterdir()] == ["b.tflite"]
    assert path.read_bytes() == b"old"
