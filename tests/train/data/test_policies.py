"""Augmentation policies: what the published ones draw, that lesions survive them, and those that a file holds."""

import hashlib
import json
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.train.data.augment import POLICIES, Augment, load_policy

IMAGE = make_slice(1, 4, True, 96).image[:, :, np.newaxis]


def draw(policy: Augment, seed: int = 0, image: np.ndarray = IMAGE) -> np.ndarray:
    return policy(image, np.random.default_rng(seed))


def pattern(side: int) -> np.ndarray:
    """By integer arithmetic alone, so that it is the same on every machine."""
    y, x = np.indices((side, side))
    return ((x * 7 + y * 13 + (x * y) % 31) % 256).astype(np.uint8)[:, :, np.newaxis]


def as_published(name: str, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The policies as version 0.1 first had them: runs were trained with these and are to stay repeatable."""
    ranges = {
        "none": dict.fromkeys(
            ("rotate", "shear", "scale", "shift", "flip", "vertical", "window", "gamma", "noise", "blur"), 0.0
        )
        | {"jpeg": 100},
    }
    ranges["flips"] = ranges["none"] | {"rotate": 15, "flip": 0.5, "vertical": 0.5}
    ranges["standard"] = ranges["none"] | {
        "rotate": 12, "shear": 5, "scale": 0.12, "shift": 0.06, "flip": 0.5, "window": 0.1, "gamma": 0.2, "noise": 6,
        "blur": 0.8, "jpeg": 50,
    }  # fmt: skip
    own = ranges[name]
    out, side = image[:, :, 0], len(image)
    angle, shear = np.deg2rad(generator.uniform(-1, 1, 2) * (own["rotate"], own["shear"]))
    scale = 1 + generator.uniform(-1, 1, 2) * own["scale"]
    shift = generator.uniform(-1, 1, 2) * own["shift"] * side
    if generator.random() < own["flip"]:
        scale[0] *= -1
    if generator.random() < own["vertical"]:
        scale[1] *= -1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag(scale)
    centre = np.full(2, (side - 1) / 2)
    affine = np.column_stack([matrix, centre + shift - matrix @ centre])
    out = cv2.warpAffine(out, affine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    contrast, brightness = generator.uniform(-1, 1, 2) * own["window"]
    levels = np.linspace(0, 1, 256) ** np.exp(generator.uniform(-1, 1) * own["gamma"])
    levels = (levels - 0.5) * (1 + contrast) + 0.5 + brightness
    out = cv2.LUT(out, np.clip(levels * 255 + 0.5, 0, 255).astype(np.uint8))
    if own["blur"]:
        sigma = generator.uniform(0, own["blur"])
        if sigma > 0.3:
            out = cv2.GaussianBlur(out, (0, 0), sigma)
    if own["noise"]:
        sigma = generator.uniform(0, own["noise"])
        noise = generator.standard_normal(out.shape, np.float32) * np.float32(sigma)
        out = np.clip(out + noise + np.float32(0.5), 0, 255).astype(np.uint8)
    if own["jpeg"] < 100 and generator.random() < 0.5:
        quality = int(generator.integers(own["jpeg"], 101))
        _, encoded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])
        out = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    return out[:, :, np.newaxis]


@pytest.mark.parametrize("name", ["none", "flips", "standard"])
@pytest.mark.parametrize("side", [32, 97, 112])
def test_published_policies_draw_what_they_drew(name: str, side: int) -> None:
    for seed in range(25):
        new, old = (np.random.default_rng((seed, side, 1)) for _ in range(2))
        assert np.array_equal(POLICIES[name](pattern(side), new), as_published(name, pattern(side), old))
        assert new.bit_generator.state == old.bit_generator.state


@pytest.mark.parametrize(
    ("name", "pixels", "draws"),
    [
        ("none", ["cb1c66894301eee5"], "e05235fd6e24931a"),
        ("flips", ["5a0adcb26bee94fd", "a4dbcc0351b071b3"], "e05235fd6e24931a"),
        ("standard", ["c3c9886320899d44", "52dc2b26ecb9cf23"], "ab526674daf2bf42"),
    ],
)
def test_hashes_of_the_first_version(name: str, pixels: list[str], draws: str) -> None:
    """Computed with the code of 0.1 before anything was added to it.

    The pixels are those of OpenCV 5.0 on x86-64, with AVX2 and without; elsewhere warps and blurs round otherwise.
    """
    drawn, left = hashlib.sha256(), hashlib.sha256()
    for index, side in enumerate((32, 96, 97, 224) * 8):
        generator = np.random.default_rng((3, 1, index))
        drawn.update(POLICIES[name](pattern(side), generator).tobytes())
        left.update(generator.random(4).tobytes())
    assert left.hexdigest()[:16] == draws
    if platform.machine() == "x86_64" and cv2.__version__.startswith("5.0."):
        assert drawn.hexdigest()[:16] in pixels


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_shape_dtype_and_determinism(name: str) -> None:
    first = draw(POLICIES[name], 7)
    assert (first.shape, first.dtype) == (IMAGE.shape, np.uint8)
    assert np.array_equal(first, draw(POLICIES[name], 7))
    if name != "none":
        assert not np.array_equal(first, draw(POLICIES[name], 8))


def test_threads_draw_the_same() -> None:
    """`grain` seeds OpenCV's generator, which is one a thread."""
    policy = Augment(grain=20)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: draw(policy, seed), range(200)))
    assert all(np.array_equal(one, draw(policy, seed)) for seed, one in enumerate(together))


@pytest.mark.parametrize("name", ["flips", "standard", "paper", "travel"])
def test_lesions_stay_visible_and_in_the_picture(name: str) -> None:
    """A positive slice whose lesions a policy hid would teach that they are nothing."""
    own = POLICIES[name]
    moving = ("rotate", "shear", "scale", "shift", "flip", "flip_vertical", "skew", "crop", "border", "markings")
    still = msgspec.structs.replace(own, **dict.fromkeys(moving, 0))
    moved = Augment(**{field: getattr(own, field) for field in moving if field != "markings"})
    contrasts, areas = [], []
    for patient in range(1, 16, 2):
        phantom = make_slice(patient, 1, True, 112, slices=4)
        lung = phantom.lungs & ~phantom.lesion
        assert phantom.lesion.any()

        def contrast(image: np.ndarray, lesion: np.ndarray = phantom.lesion, lung: np.ndarray = lung) -> float:
            return float(np.median(image[lesion]) - np.median(image[lung]))

        mask = np.where(phantom.lesion, 101, 0).astype(np.uint8)[:, :, np.newaxis]
        for seed in range(25):
            image = draw(still, seed, phantom.image[:, :, np.newaxis])[:, :, 0]
            contrasts.append(contrast(image) / contrast(phantom.image))
            areas.append((np.abs(draw(moved, seed, mask)[:, :, 0].astype(int) - 101) < 51).sum() / phantom.lesion.sum())
    assert min(contrasts) > 0.5
    assert min(areas) > 0.5


def ranges() -> dict[str, st.SearchStrategy[Any]]:
    """Every field anywhere in its range, or off."""
    found = {}
    for field in msgspec.inspect.type_info(Augment).fields:  # type: ignore[union-attr]
        bounds = field.type.ge, field.type.le  # type: ignore[union-attr]
        if isinstance(field.type, msgspec.inspect.IntType):
            found[field.name] = st.integers(*bounds)
        else:
            found[field.name] = st.one_of(st.just(0.0), st.floats(*bounds))
    return found


@given(st.fixed_dictionaries(ranges()), st.integers(32, 96), st.integers(0, 2**32))
def test_any_policy_gives_a_slice(fields: dict[str, float], side: int, seed: int) -> None:
    own = Augment(**fields)
    image = np.random.default_rng(side).integers(0, 256, (side, side, 1), dtype=np.uint8)
    before = image.copy()
    out = draw(own, seed, image)
    assert (out.shape, out.dtype) == ((side, side, 1), np.uint8)
    assert np.array_equal(image, before)
    assert np.array_equal(out, draw(own, seed, image))
    assert msgspec.json.decode(msgspec.json.encode(own), type=Augment) == own


def test_policies_survive_json(tmp_path: Path) -> None:
    for name, own in POLICIES.items():
        assert msgspec.json.decode(msgspec.json.encode(own), type=Augment) == own
        assert load_policy(name) == own
        (tmp_path / "own.json").write_bytes(msgspec.json.encode(own))
        assert load_policy(str(tmp_path / "own.json")) == own


def test_a_file_need_not_name_every_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.JSON"
    path.write_text(' {"rotate": 10, "flip": 0.5}\n')
    assert load_policy(str(path)) == Augment(rotate=10, flip=0.5)
    path.write_text("{}")
    assert load_policy(str(path)) == POLICIES["none"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"skew": 0.5}', r"<= 0.4 - at `\$.skew`"),
        ('{"flip": -0.1}', r">= 0.* - at `\$.flip`"),
        ('{"jpeg": 0}', r">= 1 - at `\$.jpeg`"),
        ('{"jpeg": 50.5}', "Expected `int`"),
        ('{"rotate": "10"}', r"got `str` - at `\$.rotate`"),
        ('{"rotation": 10}', "unknown field `rotation`; its fields are rotate, shear"),
        ('{"rotate": NaN}', "malformed"),
        ('{"rotate": 10', "truncated"),
        ("[]", "Expected `object`"),
        ("", "not an augmentation policy"),
        ("[" * 100_000, "not an augmentation policy"),
    ],
)
def test_bad_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(EdgeCTError, match=message):
        load_policy(str(path))


def test_every_bound_is_checked() -> None:
    for field in msgspec.inspect.type_info(Augment).fields:  # type: ignore[union-attr]
        for wrong in (field.type.ge - 1, field.type.le + 1):  # type: ignore[union-attr]
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(json.dumps({field.name: wrong}), type=Augment)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("standart", r"did you mean standard\?"),
        ("Travel", r"did you mean travel\?"),
        ("mad", "choose one of none, flips, standard, paper, travel, or a .json file"),
        ("", "no augmentation policy named ''"),
        ("none.json", "none.json: cannot be read: No such file"),
        ("a\0.json", "cannot be read"),
        (".json/", "no augmentation policy named"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeCTError, match=message):
        load_policy(name)
