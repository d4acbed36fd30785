"""Reading slices: the same grey bytes as Pillow, and a refusal for everything that is not a whole, sane image."""

import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edge_ct import slices
from edge_ct.errors import InputRejected
from edge_ct.phantom import make_slice

Encode = Callable[..., bytes]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], len(PNG_SIGNATURE)
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        found.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return PNG_SIGNATURE + b"".join(chunk(name, content) for name, content in parts)


def tiff_of(width: int, height: int, data: bytes, **tags: int) -> bytes:
    """A little-endian TIFF of one strip, after the TIFF 6.0 specification, section 2 and 3."""
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    values |= {int(name.removeprefix("t")): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def pixels_of(data: bytes) -> np.ndarray:
    return slices.decode(data, "test").pixels


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"compress_level": 0}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ],
)
def test_lossless_grey_is_what_pillow_reads(grey: np.ndarray, encode: Encode, kind: str, options: dict) -> None:
    data = encode(grey, kind, **options)
    read = pixels_of(data)
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.asarray(opened(data)))
    assert np.array_equal(read, grey)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"quality": 100}, {"optimize": True}])
def test_jpeg_grey_is_what_pillow_reads(ramp: np.ndarray, encode: Encode, options: dict) -> None:
    data = encode(ramp, "JPEG", **options)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(opened(data), int)).max() <= 2


def test_jpeg_in_colour_is_the_luma_that_pillow_reads(ramp: np.ndarray, encode: Encode) -> None:
    data = encode(Image.merge("RGB", [Image.fromarray(plane) for plane in (ramp, ramp[::-1], ramp // 2)]), "JPEG")
    # Pillow's `draft` asks libjpeg for the luma channel itself, without a way through RGB.
    image = opened(data)
    image.draft("L", image.size)
    assert np.abs(pixels_of(data).astype(int) - np.asarray(image, int)).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_the_high_byte(encode: Encode, kind: str) -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (40, 48)).astype(np.uint16)
    assert np.array_equal(pixels_of(encode(wide, kind)), wide // 256)


def hounsfield(size: int = 96) -> np.ndarray:
    """int16: air, fat, tissue and bone with noise, in Hounsfield units."""
    grey = make_slice(1, 4, False, size).image
    return np.round(grey / 255 * 1500 - 1350 + np.random.default_rng(6).normal(0, 20, grey.shape)).astype(np.int16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("hot", [0, 5])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("offset", [1400, 20_000, 32_768, 65_536])
def test_twelve_bit_values_in_sixteen_are_refused(
    encode: Encode, kind: str, hot: int, padding: bool, offset: int
) -> None:
    """With a few hot pixels, an offset, without a sign, and with another value around the circle of the scanner."""
    values = (hounsfield().astype(int) + offset) % 65_536
    if padding:
        y, x = np.ogrid[-1:1:96j, -1:1:96j]
        values[y**2 + x**2 > 1] = 0
    values.flat[4000 : 4000 + hot] = 65_535 - np.arange(hot) * 9
    with pytest.raises(InputRejected, match="without a window"):
        pixels_of(encode(values.astype(np.uint16), kind))


@pytest.mark.parametrize("factor", [1, 2, 4, 10])
def test_scanner_values_that_were_multiplied_are_refused(encode: Encode, factor: int) -> None:
    """As 13 and 14 bits, and with a decimal."""
    values = np.clip(hounsfield().astype(int) + 1400, 0, 4095) * factor
    with pytest.raises(InputRejected, match="scanner values without a window"):
        pixels_of(encode(values.astype(np.uint16), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("level", "width"), [(-600, 1500), (-500, 1400), (40, 350), (-600, 800)])
def test_sixteen_bit_values_in_a_window_are_read(encode: Encode, kind: str, level: int, width: int) -> None:
    """Lung and mediastinal windows, in which up to half of the pixels are black or white."""
    share = np.clip((hounsfield() - (level - width / 2)) / width, 0, 1)
    wide = np.round(share * 65_535).astype(np.uint16)
    assert np.array_equal(pixels_of(encode(wide, kind)), wide >> 8)
    assert np.array_equal(pixels_of(encode((wide >> 8) * np.uint16(257), kind)), wide >> 8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_in_other_colour_modes_is_the_same_grey(grey: np.ndarray, encode: Encode, kind: str, mode: str) -> None:
    """Alpha is noise here: a decoder that blended or premultiplied it would show."""
    image, alpha = Image.fromarray(grey), Image.fromarray(np.roll(grey, 11, axis=1))
    if mode == "1":
        image = image.point(lambda value: 255 * (value > 127))
    expected = np.asarray(image)
    converted = {
        "RGB": lambda: Image.merge("RGB", [image] * 3),
        "RGBA": lambda: Image.merge("RGBA", [image] * 3 + [alpha]),
        "LA": lambda: Image.merge("LA", [image, alpha]),
        "P": lambda: image.convert("P"),
        "1": lambda: image.convert("1"),
    }[mode]()
    assert converted.mode == mode
    data = encode(converted, kind)
    assert opened(data).mode == mode
    try:
        read = pixels_of(data)
    except InputRejected:
        # libtiff multiplies alpha into the colours of such a file; to refuse it is as good as to undo that.
        assert (kind, mode) == ("TIFF", "RGBA")
        return
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("transparent", [0, 5, 255])
def test_transparent_grey_level_of_a_png_stays_as_it_is(grey: np.ndarray, encode: Encode, transparent: int) -> None:
    assert np.array_equal(pixels_of(encode(grey, "PNG", transparency=transparent)), grey)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_is_rec_601_luma(encode: Encode, kind: str) -> None:
    colour = np.random.default_rng(2).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    # Half a level for rounding; libpng cuts off instead, and its weights have fifteen bits.
    assert np.abs(pixels_of(encode(colour, kind)) - luma).max() < 1.1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"gAMA", struct.pack(">I", 45_455)),
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"sRGB", b"\0"),
        (b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)),
    ],
)
def test_colour_of_a_png_is_rec_601_luma_whatever_colours_it_states(
    encode: Encode, name: bytes, content: bytes
) -> None:
    """As Pillow reads it: its own test pictures differed by up to 71 greys while a decoder heeded these chunks."""
    colour = np.random.default_rng(2).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    data = encode(colour, "PNG")
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    stated = data[:33] + chunk + data[33:]
    luma = np.asarray(Image.open(BytesIO(stated)).convert("L")).astype(int)
    assert np.abs(slices.decode(stated, "x").pixels.astype(int) - luma).max() <= 1


def test_sixteen_bit_colour_png(encode: Encode, grey: np.ndarray) -> None:
    wide = np.repeat(grey[:, :, None].astype(">u2") * 257, 3, axis=2)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    assert np.array_equal(pixels_of(png_of([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])), grey)


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
def test_few_bit_grey_png_fills_the_range(bits: int, step: int) -> None:
    """A sample of b bits is scaled by 255 / (2^b - 1) (PNG specification, 13.12)."""
    levels = np.random.default_rng(3).integers(0, 2**bits, (32, 64))
    raw = np.unpackbits(levels.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - bits :].reshape(32, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", 64, 32, bits, 0, 0, 0, 0)
    data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    assert np.array_equal(pixels_of(data), levels * step)


def test_same_pixels_have_one_identity_in_every_container(
    grey: np.ndarray, encode: Encode, write_ct: Callable[..., bytes]
) -> None:
    containers = [
        encode(grey, "PNG"),
        encode(grey, "PNG", compress_level=0),
        encode(grey, "TIFF"),
        encode(grey, "TIFF", compression="tiff_lzw"),
        encode(np.repeat(grey[:, :, None], 3, axis=2), "PNG"),
        encode(grey.astype(np.uint16) * 256 + 9, "PNG"),
        # A DICOM object whose lung window maps each stored value to itself: -1350 HU + 1500 / 255 HU a step.
        write_ct(grey, slope="5.88235294117647", intercept="-1350"),
    ]
    assert len({slices.decode(data, "test").sha256 for data in containers}) == 1


def test_identity_is_of_pixels_and_shape(encode: Encode) -> None:
    flat = np.arange(64 * 32, dtype=np.int64).astype(np.uint8)
    tall, wide = flat.reshape(64, 32), flat.reshape(32, 64)
    changed = wide.copy()
    changed[31, 63] ^= 1
    assert len({slices.decode(encode(image, "PNG"), "x").sha256 for image in (tall, wide, changed)}) == 3


def test_two_different_slices_of_the_same_values_but_for_one_pixel_differ(encode: Encode, grey: np.ndarray) -> None:
    other = grey.copy()
    other[20, 20] ^= 1
    assert slices.decode(encode(grey, "PNG"), "a").sha256 != slices.decode(encode(other, "PNG"), "b").sha256


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied(ramp: np.ndarray, encode: Encode, kind: str, orientation: int) -> None:
    """A photograph of a light box comes upright, as Pillow's `exif_transpose` has it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(ramp, kind, **({"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}))
    upright = np.asarray(ImageOps.exif_transpose(opened(data)), int)
    assert upright.shape == ((48, 40) if orientation > 4 else (40, 48))
    read = pixels_of(data)
    assert read.shape == upright.shape
    assert np.abs(read - upright).max() <= (2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_tiff_of_floats_or_wide_integers_is_refused(grey: np.ndarray, encode: Encode, dtype: type) -> None:
    with pytest.raises(InputRejected, match="8 or 16 bit unsigned"):
        pixels_of(encode(grey.astype(dtype), "TIFF"))


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_tiff_is_refused(grey: np.ndarray, bits: int) -> None:
    data = (grey.astype(f"<i{bits // 8}") - 100).astype(f"<i{bits // 8}").tobytes()
    with pytest.raises(InputRejected):
        pixels_of(tiff_of(48, 40, data, t258=bits, t339=2))


def test_tiff_with_16_bit_channels_in_planes_is_refused(grey: np.ndarray) -> None:
    """OpenCV reads the planes as interleaved samples."""
    plane = (grey.astype("<u2") * 257).tobytes()
    with pytest.raises(InputRejected, match="16-bit channels in separate planes; save it as grey"):
        pixels_of(tiff_of(grey.shape[1], grey.shape[0], plane * 3, t258=16, t262=2, t277=3, t284=2))


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_zero_is_white_is_not_read_as_a_negative(grey: np.ndarray, bits: int) -> None:
    """PhotometricInterpretation 0, WhiteIsZero (TIFF 6.0, page 37): inverted, or refused; never judged as stored."""
    stored = grey if bits == 8 else grey.astype("<u2") * 257
    try:
        read = pixels_of(tiff_of(48, 40, stored.tobytes(), t258=bits, t262=0))
    except InputRejected:
        return
    assert np.array_equal(read, 255 - grey)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_tiff_of_other_colours_is_refused_by_its_name(grey: np.ndarray, mode: str) -> None:
    buffer = BytesIO()
    if mode == "LAB":
        zeros = Image.fromarray(np.zeros_like(grey))
        picture = Image.merge("LAB", [Image.fromarray(grey), zeros, zeros])
    else:
        picture = Image.fromarray(np.dstack([grey] * 3)).convert(mode)
    picture.save(buffer, "TIFF")
    with pytest.raises(InputRejected, match="TIFF in CMYK or Lab colours; save it as grey"):
        slices.decode(buffer.getvalue(), "x")


def test_own_tiff_writer_agrees_with_pillow(grey: np.ndarray) -> None:
    assert np.array_equal(np.asarray(opened(tiff_of(48, 40, grey.tobytes()))), grey)
    assert np.array_equal(pixels_of(tiff_of(48, 40, grey.tobytes())), grey)


def refused_quickly(data: bytes, message: str) -> None:
    """Refused within 0.5 s and without 8 MB of Python memory or of resident memory."""
    resident = Path("/proc/self/statm")
    before = int(resident.read_text().split()[1]) if resident.exists() else 0
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(InputRejected, match=message):
            pixels_of(data)
        assert time.perf_counter() - start < 0.5
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    if resident.exists():
        assert (int(resident.read_text().split()[1]) - before) * os.sysconf("SC_PAGESIZE") < 8 << 20


@pytest.mark.parametrize("side", [60_000, 4097, 2**31 - 1, 2**32 - 1])
def test_giant_png_is_refused_on_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")])
    refused_quickly(data, f"{side} x {side} px; the limit is 4096 x 4096")


def test_giant_jpeg_is_refused_on_its_header(ramp: np.ndarray, encode: Encode) -> None:
    data = bytearray(encode(ramp, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    refused_quickly(bytes(data), "60000 x 60000 px")


def test_giant_tiff_is_refused_on_its_header() -> None:
    refused_quickly(tiff_of(60_000, 60_000, bytes(1000)), "60000 x 60000 px")


@pytest.mark.parametrize("kind", [3, 4, 9])
def test_tiff_that_states_its_size_twice_cannot_pass_the_limit(kind: int) -> None:
    """libtiff takes the first of two equal tags, whatever integer type it has: the limit must look at the same."""
    side, strip = 5000, zlib.compress(bytes(5000 * 5000), 9)
    tags = [(256, kind, side), (256, 4, 64), (257, kind, side), (257, 4, 64), (258, 4, 8), (259, 4, 8)]
    tags += [(262, 4, 1), (273, 4, 8), (277, 4, 1), (278, 4, side), (279, 4, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, own, 1, value) for tag, own, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    with pytest.raises(InputRejected):
        pixels_of(b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory)


@pytest.mark.parametrize(("width", "height"), [(4097, 40), (40, 4097), (31, 40), (40, 31), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_sides_outside_the_limits_are_refused(encode: Encode, width: int, height: int, kind: str) -> None:
    with pytest.raises(InputRejected, match=f"{width} x {height} px"):
        pixels_of(encode(np.zeros((height, width), np.uint8), kind))


@pytest.mark.parametrize(("width", "height"), [(4096, 32), (32, 4096), (32, 32)])
def test_sides_at_the_limits_are_read(encode: Encode, width: int, height: int) -> None:
    assert pixels_of(encode(np.zeros((height, width), np.uint8), "PNG")).shape == (height, width)


def test_file_over_64_mib_is_refused_unread(tmp_path: Path, encode: Encode, grey: np.ndarray) -> None:
    path = tmp_path / "sparse.png"
    path.write_bytes(encode(grey, "PNG"))
    os.truncate(path, 64 * 1024 * 1024 + 1)
    tracemalloc.start()
    try:
        with pytest.raises(InputRejected, match="the limit is 64 MiB"):
            slices.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bytes_over_64_mib_are_refused() -> None:
    with pytest.raises(InputRejected, match="the limit is 64 MiB"):
        slices.decode(bytes(64 * 1024 * 1024 + 1), "memory")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"this is not a picture, whatever its name says", "not a PNG, JPEG, TIFF or DICOM"),
        (b"GIF89a" + bytes(100), "a GIF file, which is not read; save it as PNG"),
        (PNG_SIGNATURE, "truncated"),
        (b"\xff\xd8\xff", "truncated"),
        (b"II*\0", "truncated"),
        (bytes(200), "not a PNG, JPEG, TIFF or DICOM"),
    ],
)
def test_what_is_no_image_is_refused_by_name_and_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(content)
    with pytest.raises(InputRejected, match=message) as caught:
        slices.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_png_is_refused(encode: Encode, grey: np.ndarray) -> None:
    data = encode(grey, "PNG")
    for length in range(len(data)):
        with pytest.raises(InputRejected):
            slices.decode(data[:length], "test")


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_every_truncation_of_a_jpeg_is_refused(encode: Encode, ramp: np.ndarray, options: dict) -> None:
    data = encode(ramp, "JPEG", **options)
    for length in range(len(data)):
        with pytest.raises(InputRejected):
            slices.decode(data[:length], "test")


def test_truncated_jpeg_is_not_saved_by_its_thumbnail(encode: Encode, ramp: np.ndarray) -> None:
    """A thumbnail in EXIF ends in an end-of-image marker of its own."""
    thumbnail = encode(ramp[::4, ::4], "JPEG")
    data = encode(ramp, "JPEG", exif=b"Exif\0\0" + thumbnail)
    assert data.count(b"\xff\xd9") == 2
    assert pixels_of(data).shape == ramp.shape
    with pytest.raises(InputRejected, match="truncated"):
        slices.decode(data[:-40], "test")


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_truncated_tiff_is_refused_or_whole(encode: Encode, grey: np.ndarray, options: dict) -> None:
    """Only the offset of a second image, which nothing needs, may be cut off."""
    data = encode(grey, "TIFF", **options)
    for length in [*range(0, len(data) - 40, 7), *range(len(data) - 40, len(data))]:
        try:
            read = pixels_of(data[:length])
        except InputRejected:
            continue
        assert length >= len(data) - 4
        assert np.array_equal(read, grey)


@pytest.mark.parametrize("lost", ["first", "middle", "last", "all", "half"])
def test_png_whose_data_chunks_are_incomplete_is_refused(encode: Encode, grey: np.ndarray, lost: str) -> None:
    """Each chunk is whole and its checksum right, and the end is there: only the decoder can tell."""
    header, data, end = (chunks(encode(grey, "PNG"))[index] for index in (0, 1, -1))
    parts = [(b"IDAT", data[1][at : at + 300]) for at in range(0, len(data[1]), 300)]
    assert np.array_equal(pixels_of(png_of([header, *parts, end])), grey)
    kept = {
        "first": parts[1:],
        "middle": parts[:3] + parts[4:],
        "last": parts[:-1],
        "all": [],
        "half": [(b"IDAT", zlib.compress(zlib.decompress(data[1])[: 20 * 49]))],
    }[lost]
    with pytest.raises(InputRejected):
        pixels_of(png_of([header, *kept, end]))


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_byte_in_a_png_is_refused(encode: Encode, grey: np.ndarray, data: st.DataObject) -> None:
    whole = bytearray(encode(grey, "PNG", pnginfo=None))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    try:
        read = pixels_of(bytes(whole))
    except InputRejected:
        return
    assert np.array_equal(read, grey)


def test_flipped_byte_in_the_header_or_end_of_a_png_is_refused(encode: Encode, grey: np.ndarray) -> None:
    whole = encode(grey, "PNG")
    for position in [*range(60), *range(len(whole) - 20, len(whole))]:
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[position] ^= bit
            with pytest.raises(InputRejected):
                slices.decode(bytes(changed), "test")


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
@example(0, b"\xff\xd8\xff")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_overwritten_bytes_give_a_slice_or_a_refusal(
    encode: Encode, ramp: np.ndarray, kind: str, position: int, junk: bytes
) -> None:
    """JPEG and TIFF have no checksums; whatever comes must at least keep the limits."""
    data = bytearray(encode(ramp, kind))
    position %= len(data)
    data[position : position + len(junk)] = junk
    try:
        read = pixels_of(bytes(data))
    except InputRejected:
        return
    assert read.dtype == np.uint8
    assert read.ndim == 2
    assert 32 <= min(read.shape) <= max(read.shape) <= 4096


def test_source_is_kept_for_people(tmp_path: Path, encode: Encode, grey: np.ndarray) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(encode(grey, "PNG"))
    read = slices.read(str(path))
    assert (read.source, read.dicom) == (str(path), None)
    assert np.array_equal(read.pixels, grey)
