"""Damaged pixel data is rejected, quietly; whole files of every kind stay readable."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_ct import slices
from edge_ct.errors import InputRejected
from edge_ct.phantom import make_slice
from edge_ct.system.native_output import captured_decoder_output

GREY = make_slice(1, 4, True, 256).image
WHOLE = {
    "baseline": ("JPEG", {"quality": 92}),
    "optimised": ("JPEG", {"quality": 92, "optimize": True}),
    "progressive": ("JPEG", {"quality": 92, "progressive": True}),
    "restart markers": ("JPEG", {"quality": 92, "restart_marker_blocks": 8}),
    "TIFF": ("TIFF", {}),
    "TIFF LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF Deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF PackBits": ("TIFF", {"compression": "packbits"}),
    "TIFF JPEG": ("TIFF", {"compression": "jpeg", "quality": 92}),
}
DAMAGED = [name for name in WHOLE if name != "TIFF"]  # TIFF without compression has nothing that tells damage


def encoded(name: str, image: np.ndarray = GREY) -> bytes:
    kind, options = WHOLE[name]
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def compressed_span(data: bytes) -> tuple[int, int]:
    """Begin and end of the entropy-coded data: behind the first SOS of a JPEG, or all strips of a TIFF by Pillow."""
    if data.startswith(b"\xff\xd8"):
        return data.index(b"\xff\xda") + 14, len(data) - 2
    tags = Image.open(BytesIO(data)).tag_v2
    begin, end = tags[273][0], tags[273][-1] + tags[279][-1]
    if tags[259] == 7:
        begin = data.index(b"\xff\xda", begin) + 14
    return begin, end


def zeroed(data: bytes, position: int, length: int) -> bytes:
    return data[:position] + bytes(length) + data[position + length :]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_what_pillow_reads(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(name)
    difference = np.abs(slices.decode(data, name).pixels.astype(int) - np.asarray(Image.open(BytesIO(data)), int))
    assert difference.max() <= (2 if "JPEG" in (WHOLE[name][0], name[-4:]) else 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_whole_colour_jpeg_is_the_luma_that_pillow_reads(subsampling: str, progressive: bool) -> None:
    buffer = BytesIO()
    colour = Image.merge("RGB", [Image.fromarray(plane) for plane in (GREY, GREY[::-1], GREY // 2)])
    colour.save(buffer, "JPEG", subsampling=subsampling, progressive=progressive, quality=90)
    image = Image.open(BytesIO(buffer.getvalue()))
    image.draft("L", image.size)
    read = slices.decode(buffer.getvalue(), "colour")
    assert np.abs(read.pixels.astype(int) - np.asarray(image, int)).max() <= 2
    assert read.colour > 0.1


@pytest.mark.parametrize("name", DAMAGED)
def test_zeroed_block_is_rejected_without_the_words_of_a_library(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(name)
    begin, end = compressed_span(data)
    with pytest.raises(InputRejected, match=f"damaged.* {WHOLE[name][0]}"):
        slices.decode(zeroed(data, (begin + end) // 2, 2000), name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DAMAGED)
def test_zeroed_blocks_of_any_size_and_place_are_seen(name: str) -> None:
    """A decoder takes zeros for codes, so that some of these blocks leave as many bits as they found."""
    generator, seen = np.random.default_rng(3), 0
    for number in range(40):
        image = make_slice(number, number % 8, number % 2 == 0, (128, 256)[number % 2]).image
        data = encoded(name, image)
        begin, end = compressed_span(data)
        length = min(int(generator.choice([64, 256, 1000, 4096])), (end - begin) // 3)
        damaged = zeroed(data, int(generator.integers(begin, end - length)), length)
        try:
            pixels = slices.decode(damaged, name).pixels
        except InputRejected as error:
            assert "damaged" in str(error) or "truncated" in str(error)
            seen += 1
        else:  # What the zeros replaced was as good as zeros, or pixels that PackBits stores as they are.
            assert (np.abs(pixels.astype(int) - image) > 12).sum() <= length
    assert seen >= 38


def test_flat_areas_that_are_coded_as_zeros_are_no_damage() -> None:
    """With optimised tables the end of a block may be the code of zeros: a black picture is a run of zero bytes."""
    flat = np.zeros((512, 512), np.uint8)
    flat[200:210, 200:210] = 99
    for options in ({"optimize": True}, {"progressive": True}, {"quality": 100, "optimize": True}):
        for image in (flat, np.dstack([flat] * 3)):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", **options)
            assert bytes(16) in buffer.getvalue()
            assert slices.decode(buffer.getvalue(), "flat").pixels.shape == (512, 512)


@pytest.mark.parametrize("change", [lambda data: data[:-40], lambda data: data + bytes([0x80, 0x80, 3, 1, 1, 1, 1])])
def test_packbits_must_unpack_to_the_rows_of_its_strip(change: Callable[[bytes], bytes]) -> None:
    data = encoded("TIFF PackBits")
    tags = Image.open(BytesIO(data)).tag_v2
    begin, length = tags[273][0], tags[279][0]
    strip = change(data[begin : begin + length])
    moved = bytearray(data + strip)
    (directory,) = struct.unpack_from("<I", data, 4)
    for tag, value in ((273, len(data)), (279, len(strip))):
        struct.pack_into("<I", moved, data.index(struct.pack("<HHI", tag, 4, 1), directory) + 8, value)
    with pytest.raises(InputRejected, match="damaged TIFF"):
        slices.decode(bytes(moved), "strip")


@pytest.mark.parametrize("name", [name for name in WHOLE if WHOLE[name][0] == "JPEG"])
@pytest.mark.parametrize("lost", [1000, 4096, None])
def test_jpeg_that_lost_data_is_rejected(name: str, lost: int | None, capfd: pytest.CaptureFixture[str]) -> None:
    """A lost block, or the second half, with the end marker in its place."""
    data = encoded(name)
    middle = len(data) // 2
    with pytest.raises(InputRejected, match="damaged JPEG: a part of its pixels is lost"):
        slices.decode(data[:middle] + (b"\xff\xd9" if lost is None else data[middle + lost :]), name)
    assert capfd.readouterr() == ("", "")


def test_damage_is_told_at_every_log_level_of_opencv() -> None:
    import cv2

    data = encoded("TIFF LZW")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with pytest.raises(InputRejected, match="damaged TIFF"):
            slices.decode(zeroed(data, len(data) // 2, 2000), "LZW")
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    finally:
        cv2.utils.logging.setLogLevel(level)


@given(place=st.floats(0, 0.95), length=st.integers(64, 4000), name=st.sampled_from(["TIFF LZW", "TIFF Deflate"]))
@settings(max_examples=100, deadline=None)
def test_random_damage_of_a_compressed_tiff_is_rejected_or_harmless(place: float, length: int, name: str) -> None:
    """Zeroed spans: what is still read differs by over 2 greys on at most 1 % of the pixels."""
    whole = encoded(name)
    begin, end = compressed_span(whole)
    position = begin + int(place * (end - begin))
    try:
        read = slices.decode(zeroed(whole, position, min(length, end - position)), name).pixels
    except InputRejected:
        return
    assert np.mean(np.abs(read.astype(int) - GREY) > 2) <= 0.01


@pytest.mark.parametrize("name", [name for name in DAMAGED if "JPEG" in (WHOLE[name][0], name[-4:])])
def test_random_damage_of_a_jpeg_is_nearly_always_rejected(name: str) -> None:
    """JPEG has no checksum: about one zeroed span in thirty decodes to as many blocks as it replaces, unseen."""
    rng = np.random.default_rng(1)
    whole = encoded(name)
    begin, end = compressed_span(whole)
    unseen = 0
    for _ in range(60):
        position = int(rng.integers(begin, end - 4000))
        try:
            read = slices.decode(zeroed(whole, position, int(rng.integers(64, 4000))), name).pixels
        except InputRejected:
            continue
        unseen += np.mean(np.abs(read.astype(int) - slices.decode(whole, name).pixels) > 2) > 0.01
    assert unseen <= 6


def test_threads_that_read_together_keep_their_messages_apart(capfd: pytest.CaptureFixture[str]) -> None:
    whole = encoded("baseline")
    damaged = zeroed(whole, len(whole) // 2, 2000)

    def is_read(data: bytes) -> bool:
        try:
            slices.decode(data, "x")
        except InputRejected:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(is_read, [whole, damaged] * 40))
    assert results == [True, False] * 40
    assert capfd.readouterr() == ("", "")


def test_what_others_write_meanwhile_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_decoder_output() as messages:
        os.write(2, b"\rreading slices  10%")
        os.write(2, b"Corrupt JPEG data: premature end of data segment\n")
        os.write(2, b"\rreading slices  20%")
    assert messages == ["Corrupt JPEG data: premature end of data segment"]
    assert capfd.readouterr().err == "\rreading slices  10%\rreading slices  20%"


@pytest.mark.parametrize("count", [2, 5])
def test_tiff_of_several_pages_is_refused_with_their_number(count: int) -> None:
    buffer = BytesIO()
    pages = [Image.fromarray(np.roll(GREY, shift, axis=1)) for shift in range(count)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(InputRejected, match=f"a TIFF of {count} pages; save each as a file"):
        slices.decode(buffer.getvalue(), "pages")


def test_animated_png_and_stereo_jpeg_are_refused_with_their_number() -> None:
    first, second = Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())
    animated, stereo = BytesIO(), BytesIO()
    first.save(animated, "PNG", save_all=True, append_images=[second, second])
    with pytest.raises(InputRejected, match="an animated PNG of 3 frames; save each as a file"):
        slices.decode(animated.getvalue(), "x")
    first.save(stereo, "MPO", save_all=True, append_images=[second])
    with pytest.raises(InputRejected, match="a JPEG of 2 pictures; save each as a file"):
        slices.decode(stereo.getvalue(), "x")


def test_jpeg_with_a_preview_or_other_bytes_behind_it_is_one_picture() -> None:
    whole = encoded("baseline")
    pixels = slices.decode(whole, "x").pixels
    for more in (encoded("baseline", GREY[::4, ::4].copy()), bytes(100), b"\xff\xd8\xff", whole[:50]):
        assert np.array_equal(slices.decode(whole + more, "x").pixels, pixels)


def test_thumbnail_is_no_page_and_a_circle_of_pages_is_damage(encode: Callable[..., bytes]) -> None:
    thumbnail = struct.pack("<HHHIIHHIII", 2, 254, 4, 1, 1, 256, 4, 1, 8, 0)
    whole = encode(GREY, "TIFF")
    (directory,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, directory)
    link = directory + 2 + 12 * entries
    linked = whole[:link] + struct.pack("<I", len(whole)) + whole[link + 4 :] + thumbnail
    assert np.array_equal(slices.decode(linked, "thumbnail").pixels, GREY)
    circle = whole[:link] + struct.pack("<I", directory) + whole[link + 4 :]
    with pytest.raises(InputRejected, match="its pages form a circle"):
        slices.decode(circle, "circle")


def test_reasons_are_translated() -> None:
    from edge_ct.device_app.web.translations import Words

    portuguese = Words("pt-BR")
    reason = "damaged JPEG: a part of its pixels is lost; copy or export it again"
    assert (
        portuguese.reason(reason)
        == "JPEG danificado: parte dos pixels foi perdida; copie ou exporte o arquivo novamente"
    )
    assert (
        portuguese.reason("a TIFF of 5 pages; save each as a file")
        == "um TIFF de 5 páginas; salve cada uma em um arquivo"
    )
