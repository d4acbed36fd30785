"""Limits on images. Each is checked before a decoder allocates memory for what it limits.

A limit here is far above what scanners and their archives write, and low enough that a decoder which stays below all of
them needs at most about 250 MiB and a few seconds.
"""

from __future__ import annotations

from ..errors import InputRejected

MAX_BYTES = 64 * 1024 * 1024  # of one file
MAX_SIDE = 4096
MIN_SIDE = 32

MAX_PNG_CHUNKS = 65_536
# Inflated bytes behind the rows of a PNG: a decoder inflates them too before it drops them.
MAX_PNG_EXCESS = 256 * 1024 * 1024
MAX_JPEG_SCANS = 100  # a progressive JPEG has about ten
MAX_JPEG_COMPONENTS = 4
MAX_TIFF_CHANNELS = 4
MAX_TIFF_STRIPS = 262_144  # or tiles
MAX_TIFF_READ = 2  # times of the size of the file: what its strips or tiles take together
MAX_TIFF_PAGES = 4096  # of one file, thumbnails included; those behind them are not counted

MAX_J2K_TILES = 4096
MAX_J2K_TILE_PARTS = 65_536
MAX_J2K_LAYERS = 256
MAX_J2K_PRECINCTS = 65_536  # of all tiles and resolutions
MAX_J2K_BLOCKS = 131_072  # code blocks of all tiles and resolutions

MAX_DICOM_PIXELS = 1 << 30  # of all frames: 4096 frames of 512 x 512
MAX_DICOM_DEPTH = 32  # sequences in sequences; Enhanced CT needs five
MAX_DICOM_ITEMS = 65_536  # an Enhanced CT object of 4096 frames has about 40,000
MAX_DICOM_ELEMENTS = 524_288
MAX_DICOM_FRAGMENTS = 65_536
MAX_DICOM_VALUE = 256 * 1024  # bytes of one value that is split into a list when it is read


def check_sides(width: int, height: int, source: str) -> None:
    """Raise `InputRejected` if a side is outside `MIN_SIDE`..`MAX_SIDE` pixels."""
    if max(width, height) > MAX_SIDE:
        raise InputRejected(f"{source}: {width} x {height} px; the limit is {MAX_SIDE} x {MAX_SIDE}")
    if min(width, height) < MIN_SIDE:
        raise InputRejected(f"{source}: {width} x {height} px; too small for a CT slice (at least {MIN_SIDE})")


def reason_for(error: BaseException) -> str:
    """Return in plain words why an image cannot be read, for an exception that no reader foresaw."""
    if isinstance(error, MemoryError):
        return "reading it takes more memory than an image may take"
    if isinstance(error, RecursionError):
        return "damaged: it is nested too deeply"
    return "damaged: its decoder failed"
