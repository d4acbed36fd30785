"""Bytes or a path -> `Slice`: every image enters edge-ct through this module.

Colour and alpha are dropped: in the public SARS-CoV-2 CT-scan set the PNG colour mode alone gives the label away.
`image_headers` checks the structure of a file before a decoder allocates anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .errors import InputRejected
from .imaging import image_headers, png_pixels
from .imaging.limits import MAX_BYTES, check_sides
from .imaging.slice_check import colour_share
from .imaging.slice_files import is_dicom, other_format
from .system.files import open_regular
from .system.native_output import captured_decoder_output

if TYPE_CHECKING:
    from .dicom import DicomIds

# What libtiff and libjpeg say about pixels that they could not decode and have filled with a guess. libjpeg writes only
# its first warning of an image, so each of its warnings counts.
_DAMAGE = re.compile(
    "TIFF_Error|Corrupt JPEG|Premature end of JPEG|Inconsistent progression|Invalid SOS|Unknown Adobe|unknown JFIF"
)
# Most steps of a 16-bit sample between the darkest and the brightest percent of scanner values, which are Hounsfield
# units that may be multiplied by up to 10. In a lung window both are about 40,000 apart.
_NO_WINDOW = 16_384


@dataclass(frozen=True, eq=False)
class Slice:
    """One CT slice.

    Attributes:
        pixels: uint8 [h, w], grey, lung window.
        source: The name of the file or object, for people.
        dicom: The identifiers of a DICOM object; None for other formats.
        colour: Share of the pixels, 0 to 1, that were coloured before colour was dropped.
    """

    pixels: np.ndarray
    source: str
    dicom: DicomIds | None = None
    colour: float = 0.0

    @cached_property
    def sha256(self) -> str:
        """Hash of the pixels and their shape; the same slice has the same hash in every file format."""
        import hashlib  # late: a cold `classify` that stores nothing needs no hash

        height, width = self.pixels.shape
        return hashlib.sha256(b"%dx%d:" % (height, width) + self.pixels.tobytes()).hexdigest()


def read(path: Path | str) -> Slice:
    """Read one file. Raises `InputRejected` if it is not a readable CT slice."""
    return decode(read_bytes(Path(path), str(path)), str(path))


def read_bytes(path: Path, name: str | None = None) -> bytes:
    """Return the content of a file. Raises `InputRejected` if it is missing, unreadable or over `MAX_BYTES`."""
    name = name or str(path)
    try:
        if not path.is_file():
            raise InputRejected(f"{name}: no such file" if not path.exists() else f"{name}: not a file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputRejected(f"{name}: {size / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB")
        with open_regular(path) as file:
            return file.read(size)
    except (OSError, ValueError) as error:
        raise InputRejected(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode(data: bytes, source: str) -> Slice:
    """Decode a PNG, JPEG, TIFF or DICOM image held in memory.

    16-bit images are scaled by 1/256.

    Args:
        data: The content of the file.
        source: The name under which errors report the image.

    Raises:
        InputRejected: The data is of another format, truncated or damaged, or a side is outside
            `MIN_SIDE`..`MAX_SIDE` pixels.
        MissingExtra: The data is DICOM and pydicom is not installed.
    """
    if len(data) > MAX_BYTES:
        raise InputRejected(f"{source}: {len(data) / 2**20:.0f} MiB; the limit is {MAX_BYTES // 2**20} MiB")
    if is_dicom(data):
        from . import dicom

        pixels, ids = dicom.read_pixels(data, source)
        return Slice(pixels, source, ids)
    try:
        header = image_headers.parse(data)
    except ValueError as error:
        other = other_format(data)
        reason = f"{other.article} {other.name} file, which is not read; {other.advice}" if other else error
        raise InputRejected(f"{source}: {reason}") from error
    check_sides(header.width, header.height, source)
    if header.other_colours:
        raise InputRejected(f"{source}: TIFF in CMYK or Lab colours; save it as grey")
    if header.format == "TIFF" and header.channels == 4:
        raise InputRejected(
            f"{source}: TIFF with alpha, which libtiff multiplies into the grey values; save it without alpha"
        )
    if header.white_is_zero and header.bits == 16:
        raise InputRejected(f"{source}: 16-bit TIFF in which zero is white; save it with zero as black")
    if header.planes and header.bits > 8:
        # OpenCV reads the planes as if the samples were interleaved.
        raise InputRejected(f"{source}: TIFF with {header.bits}-bit channels in separate planes; save it as grey")
    image, colour = _decode_pixels(image_headers.without_ancillary_chunks(data), header, source)
    check_sides(image.shape[1], image.shape[0], source)
    return Slice(_to_uint8(image, source), source, colour=colour)


def _decode_pixels(data: bytes, header: image_headers.Header, source: str) -> tuple[np.ndarray, float]:
    """Decode an image whose header was checked.

    Returns:
        The grey pixels, and the share of the pixels that are coloured.

    Raises:
        InputRejected: The decoder refuses the data, or had to guess a part of the pixels.
    """
    # A PNG has checksums; its decoder need not be listened to, and several threads can decode at once.
    output: AbstractContextManager[list[str]] = nullcontext([]) if header.format == "PNG" else _decoder_output()
    image, colour = None, 0.0
    prepared = png_pixels.prepare(data, header) if header.format == "PNG" else data
    if isinstance(prepared, np.ndarray):
        return prepared, 0.0
    data = prepared
    try:
        with output as messages:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
            if image is not None and header.channels >= 3:
                colour = _colour(data)
    except cv2.error as error:
        raise InputRejected(f"{source}: damaged {header.format}: its decoder refuses it") from error
    if any(_DAMAGE.search(message) for message in messages):
        raise InputRejected(f"{source}: damaged {header.format}: a part of its pixels is lost; copy or export it again")
    if image is None:
        raise InputRejected(f"{source}: damaged or unsupported {header.format}")
    return image, colour


@contextmanager
def _decoder_output() -> Iterator[list[str]]:
    """Collect what the decoders of OpenCV report, whatever log level the environment has set."""
    with captured_decoder_output() as messages:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
        try:
            yield messages
        finally:
            cv2.utils.logging.setLogLevel(level)


def _colour(data: bytes) -> float:
    """Return the share of coloured pixels, measured at an eighth of the size, which a JPEG decodes much faster."""
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    return 0.0 if small is None else colour_share(small)


def _to_uint8(image: np.ndarray, source: str) -> np.ndarray:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim != 2:
        raise InputRejected(f"{source}: not grey-convertible, shape {image.shape}")
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise InputRejected(f"{source}: {image.dtype} pixels; 8 or 16 bit unsigned are read")
    if _has_no_window(image):
        # Scanner values in a 16-bit container would come out as almost one grey and would be judged like that.
        raise InputRejected(
            f"{source}: 16-bit scanner values without a window; export the slice in a lung window, or as DICOM"
        )
    return (image >> 8).astype(np.uint8)


def _has_no_window(image: np.ndarray) -> bool:
    """Return True if a 16-bit image holds scanner values, mostly of twelve bits, and not the greys of a window.

    Most pixels decide: a few hot pixels, an offset, negative values stored without a sign (two's complement), and one
    value for padding at either end do not hide such values. An image in a window fills its 16 bits.

    Args:
        image: uint16 [h, w].
    """
    if image.max() < _NO_WINDOW:
        return True
    for values in (image, image.view(np.int16)):
        # The ends of the range are where padding lies, and where a window cuts off.
        inner = values[(values > values.min()) & (values < values.max())]
        if inner.size * 4 < values.size:
            continue
        first, last = int(inner.size * 0.01), int(inner.size * 0.99)
        low, high = np.partition(inner, (first, last))[[first, last]].tolist()
        if high - low < _NO_WINDOW:
            return True
    return False
