"""Hostile and damaged inputs, built in memory: small files that make a decoder work or allocate without end."""

import random
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from edge_ct.phantom import make_slice

J2K_LOSSLESS = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXTREMES = (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xff\xff")


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*extra: bytes, rows: bytes | None = None, side: int = 64) -> bytes:
    """A flat grey PNG with further chunks before its pixels, or with other compressed rows."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((side + 1) * side)) if rows is None else rows
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def text_chunks() -> bytes:
    """Compressed texts of 8 MiB each; a decoder keeps all of them."""
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(8 << 20), 9))
    return png(text * 200)


def excess_rows() -> bytes:
    """Gigabytes of zeros behind the rows of a small picture."""
    packer = zlib.compressobj(9)
    block = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    return png(rows=block)


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_of_scans(scans: int = 3000, side: int = 1024) -> bytes:
    """A progressive JPEG: each scan states in a few bytes that nothing follows, and is walked over all blocks."""
    data = b"\xff\xd8" + jpeg_segment(0xDB, b"\0" + b"\x10" * 64)
    data += jpeg_segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    data += jpeg_segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    data += jpeg_segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    data += jpeg_segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(side * side // 64 // 8)
    data += (jpeg_segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + b"\x00" * 10) * scans
    return data + b"\xff\xd9"


def tiff(width: int = 64, height: int = 64, **tags: int) -> bytes:
    """A little-endian TIFF of one strip."""
    data = bytes(width * height)
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    values |= {int(name.removeprefix("t")): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def j2k(
    side: int = 64,
    components: int = 1,
    tile: int | None = None,
    layers: int = 1,
    levels: int = 5,
    block: int = 4,
    precinct: int | None = None,
    parts: bytes = b"",
) -> bytes:
    """A JPEG 2000 code stream of one empty tile part."""
    tile = tile or side
    sizes = (
        struct.pack(">HIIIIIIIIH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + bytes([15, 1, 1]) * components
    )
    style = struct.pack(">BBHB", 0 if precinct is None else 1, 0, layers, 0) + bytes([levels, block, block, 0, 1])
    style += b"" if precinct is None else bytes([precinct | precinct << 4]) * (levels + 1)
    stream = b"\xff\x4f" + jpeg_segment(0x51, sizes) + jpeg_segment(0x52, style) + parts
    stream += jpeg_segment(0x5C, bytes([0x40]) + bytes([0x48] * (3 * levels + 1)))
    return stream + b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 22, 0, 1) + b"\xff\x93" + bytes(8) + b"\xff\xd9"


def boxed(stream: bytes) -> bytes:
    """A code stream in the boxes of a JP2 file, with a palette of 255 columns."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", len(content) + 8, name) + content

    palette = box(b"pclr", struct.pack(">HB", 1, 255) + bytes([7] * 255) + bytes(255))
    mapping = box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, column) for column in range(255)))
    header = box(b"jp2h", box(b"ihdr", struct.pack(">IIHBBBB", 64, 64, 1, 7, 7, 0, 0)) + palette + mapping)
    return box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + header + box(b"jp2c", stream)


def ct(grey: np.ndarray, **more: Any) -> Any:
    """A sound CT object as pydicom's Dataset: uint16, 12 bits stored."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.3", "1.2.3.1", "1.2.3.2"
    dataset.Modality, dataset.ImageType, dataset.PatientID = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "PHANTOM"
    dataset.InstanceNumber, dataset.ImagePositionPatient = 1, [0, 0, 0]
    dataset.ImageOrientationPatient, dataset.PixelSpacing, dataset.SliceThickness = [1, 0, 0, 0, 1, 0], [0.7, 0.7], 1
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1400
    dataset.PixelData = (np.round(grey / 255 * 1500 - 1350) + 1400).astype("<u2").tobytes()
    for name, value in more.items():
        setattr(dataset, name, value)
    return dataset


def saved(dataset: Any) -> bytes:
    buffer = BytesIO()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def compressed(stream: bytes, syntax: str = J2K_LOSSLESS, side: int = 64, **more: Any) -> bytes:
    """A CT object whose only frame is this code stream."""
    from pydicom.encaps import encapsulate

    dataset = ct(np.zeros((side, side), np.uint8), **more)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


def with_element(element: bytes) -> bytes:
    """A sound object with one more encoded element (explicit, little endian) behind its last, in group 7FE1."""
    return saved(ct(phantom(0))) + element


def empty_items(count: int = 100_000, representation: bytes = b"SQ") -> bytes:
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * count
    return with_element(struct.pack("<HH2sHL", 0x7FE1, 0x1001, representation, 0, len(items)) + items)


def deflated_items(count: int = 1_000_000) -> bytes:
    """Millions of empty items that deflate to a few kilobytes."""
    dataset = ct(phantom(0))
    dataset.file_meta.TransferSyntaxUID = DEFLATED
    data = saved(dataset)
    (length,) = struct.unpack_from("<I", data, 140)
    body = zlib.decompress(data[144 + length :], -15)
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * count
    body += struct.pack("<HH2sHL", 0x7FE1, 0x1001, b"SQ", 0, len(items)) + items
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return data[: 144 + length] + packer.compress(body) + packer.flush()


def long_value() -> bytes:
    """A number of numbers: each becomes an object when the value is read."""
    value = b"1\\" * 400_000
    return with_element(struct.pack("<HH2sHL", 0x7FE1, 0x1001, b"UC", 0, len(value)) + value)


def many_elements(count: int = 600_000) -> bytes:
    return with_element(struct.pack("<HH2sH", 0x7FE1, 0x1001, b"LO", 0) * count)


def phantom(number: int, size: int = 64) -> np.ndarray:
    return make_slice(number, 3, number % 2 == 0, size).image


def rle_object(number: int = 0, size: int = 64) -> bytes:
    from pydicom.uid import RLELossless

    dataset = ct(phantom(number, size))
    dataset.compress(RLELossless)
    return saved(dataset)


def flipped_rle(count: int, size: int = 64) -> list[bytes]:
    """RLE objects with one bit of the compressed pixels flipped; about one in twenty makes a decoder panic."""
    good = rle_object(size=size)
    start, random_ = good.rfind(b"\xe0\x7f\x10\x00") + 100, random.Random(1)
    objects = []
    for _ in range(count):
        damaged = bytearray(good)
        damaged[random_.randrange(start, len(damaged) - 10)] ^= 1 << random_.randrange(8)
        objects.append(bytes(damaged))
    return objects


def sound_files(size: int = 64) -> list[bytes]:
    """One sound file of each kind that is read."""
    grey = phantom(1, size)
    files = []
    for kind, options in (
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
    ):
        buffer = BytesIO()
        Image.fromarray(grey).save(buffer, kind, **options)
        files.append(buffer.getvalue())
    buffer = BytesIO()
    Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2)).save(buffer, "PNG")
    return [*files, buffer.getvalue(), saved(ct(grey)), rle_object(1, size), *_compressed_objects(grey)]


def _compressed_objects(grey: np.ndarray) -> list[bytes]:
    from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

    objects = []
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        dataset = ct(grey)
        try:
            dataset.compress(syntax)
        except (RuntimeError, NotImplementedError):  # no encoder of this kind is installed
            continue
        objects.append(saved(dataset))
    return objects


def mutations(count: int, seed: int = 0, size: int = 64) -> Iterator[bytes]:
    """Sound files with bits flipped, bytes replaced, numbers made extreme, parts cut out, repeated or exchanged."""
    files, random_ = sound_files(size), random.Random(seed)
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(random_.choice((1, 1, 1, 2, 4, 16))):
            # Half of all changes hit the head, where structure is.
            end = len(data) if random_.random() < 0.5 else min(len(data), 700)
            position = random_.randrange(end)
            change = random_.randrange(7)
            if change == 0:
                data[position] ^= 1 << random_.randrange(8)
            elif change == 1:
                data[position] = random_.randrange(256)
            elif change == 2:
                extreme = random_.choice(
                    (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xff\xff")
                )
                data[position : position + 4] = extreme
            elif change == 3:
                del data[position : position + random_.randrange(1, 64)]
            elif change == 4:
                data[position:position] = data[position : position + random_.randrange(1, 256)] * random_.randrange(
                    1, 9
                )
            elif change == 5:
                data[position:position] = random_.randbytes(random_.randrange(1, 32))
            else:
                other = files[random_.randrange(len(files))]
                data[position:] = other[min(position, len(other)) :]
            if not data:
                data = bytearray(b"\0")
        yield _sealed(bytes(data)) if random_.random() < 0.7 else bytes(data)


def _sealed(data: bytes) -> bytes:
    """Correct the checksums of a PNG, so that a mutation reaches the decoder."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    sealed, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", sealed, end, zlib.crc32(sealed[position + 4 : end]))
        position = end + 4
    return bytes(sealed)
