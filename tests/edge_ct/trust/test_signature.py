"""Signatures, checked by cryptography and OpenSSL's own tool; forged, stripped and swapped ones are found."""

import json
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.bundle import SEAL_LENGTH, Bundle, append_seal, read_bundle, unpack_bundle
from edge_ct.errors import EdgeCTError, ModelRejected

pytest.importorskip("cryptography")
from edge_ct.trust import signature

OLD = Path(__file__).parents[1] / "bundles" / "schema-1.tflite"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")

    def pair(name: str) -> tuple[Path, Path]:
        found = folder / f"{name}.key", folder / f"{name}.pub"
        if not found[0].exists():
            signature.generate_keys(*found)
        return found

    return pair


@pytest.fixture(scope="module")
def signed(keys: Callable[[str], tuple[Path, Path]]) -> Bundle:
    return unpack_bundle(signature.sign_bundle(read_bundle(OLD), keys("maker")[0]), "signed.tflite")


def test_a_signed_bundle_verifies_and_is_otherwise_the_same(
    signed: Bundle, keys: Callable[[str], tuple[Path, Path]]
) -> None:
    old = read_bundle(OLD)
    assert signature.verify_signature(signed, keys("maker")[1]) == signature.signing_key(signed)
    assert (signed.manifest, signed.model) == (old.manifest, old.model)
    assert signed.member("split.csv") == old.member("split.csv")
    assert signature.signing_key(old) is None


def test_signing_anew_replaces_the_signature(signed: Bundle, keys: Callable[[str], tuple[Path, Path]]) -> None:
    again = unpack_bundle(signature.sign_bundle(signed, keys("other")[0]), "again")
    assert len(again.content) == len(signed.content)
    signature.verify_signature(again, keys("other")[1])
    with pytest.raises(ModelRejected, match="its signature states key"):
        signature.verify_signature(again, keys("maker")[1])


def resealed(content: bytes, model_bytes: int) -> Bundle:
    """As a forger would: anybody can seal."""
    return unpack_bundle(append_seal(content[:-SEAL_LENGTH], model_bytes), "forged")


def test_a_byte_changed_and_sealed_anew_is_found(signed: Bundle, keys: Callable[[str], tuple[Path, Path]]) -> None:
    end, draw = len(signed.content) - SEAL_LENGTH, random.Random(1)
    found = 0
    for position in [*draw.sample(range(8, end), 60), *range(end - 128, end, 9)]:
        content = bytearray(signed.content)
        content[position] ^= 1 << draw.randrange(8)
        try:
            forged = resealed(bytes(content), signed.model_bytes)
        except ModelRejected:  # the zip is broken: found as well
            continue
        with pytest.raises(ModelRejected):
            signature.verify_signature(forged, keys("maker")[1])
        found += 1
    assert found > 30


def test_another_length_of_the_model_is_found(signed: Bundle, keys: Callable[[str], tuple[Path, Path]]) -> None:
    with pytest.raises(ModelRejected, match="changed or forged"):
        signature.verify_signature(resealed(signed.content, signed.model_bytes - 4), keys("maker")[1])


def test_a_stripped_signature_is_found(signed: Bundle, keys: Callable[[str], tuple[Path, Path]]) -> None:
    stripped = read_bundle(OLD)
    with pytest.raises(ModelRejected, match="not signed, or its signature was removed"):
        signature.verify_signature(stripped, keys("maker")[1])


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public = tmp_path / "a" / "maker.key", tmp_path / "a" / "maker.pub"
    signature.generate_keys(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(EdgeCTError, match="never overwritten"):
        signature.generate_keys(private, tmp_path / "other.pub")
    with pytest.raises(EdgeCTError, match="never overwritten"):
        signature.generate_keys(tmp_path / "other.key", public)
    assert private.read_bytes() == before
    assert not (tmp_path / "other.key").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
def test_openssl_reads_the_keys(keys: Callable[[str], tuple[Path, Path]]) -> None:
    private, public = keys("maker")
    shown = subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], capture_output=True, check=True).stdout
    assert shown == public.read_bytes()


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(
    signed: Bundle, keys: Callable[[str], tuple[Path, Path]], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "some key"
    path.write_bytes(content)
    with pytest.raises(EdgeCTError, match="some key"):
        signature.sign_bundle(signed, path)
    with pytest.raises(EdgeCTError, match="some key"):
        signature.verify_signature(signed, path)
    with pytest.raises(EdgeCTError, match="cannot be read"):
        signature.verify_signature(signed, tmp_path / "none.pub")


def test_the_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, out = tmp_path / "maker", tmp_path / "signed.tflite"
    assert cli.run(["bundle", "keygen", str(name)]) == 0
    assert cli.run(["bundle", "keygen", str(name)]) == 1
    assert cli.run(["bundle", "sign", str(OLD), "--key", f"{name}.key", "--out", str(out)]) == 0
    assert cli.run(["bundle", "verify", str(out), "--key", f"{name}.pub"]) == 0
    assert cli.run(["bundle", "verify", str(out)]) == 0
    assert cli.run(["bundle", "verify", str(OLD), "--key", f"{name}.pub"]) == 4
    assert "Traceback" not in capfd.readouterr().err
    assert cli.run(["bundle", "inspect", str(out), "--json", "--operators"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["signed_by"] == signature.signing_key(read_bundle(out))
    assert {own["name"] for own in shown["operators"]} >= {"CONV_2D", "MEAN"}
