"""DICOM: objects written by pydicom, the lung window by hand, and a refusal for everything else."""

import itertools
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_ct import dicom, slices
from edge_ct.errors import InputRejected, MissingExtra

WriteCT = Callable[..., bytes]
SUPPRESSED = [HealthCheck.function_scoped_fixture]
PREAMBLE = bytes(128) + b"DICM"


@pytest.fixture
def stored() -> np.ndarray:
    """int16 [40, 48]: -1350 to 150 and some beyond, every value of the window."""
    return np.resize(np.arange(-1400, 201, dtype=np.int16), (40, 48))


def expected(hounsfield: np.ndarray) -> np.ndarray:
    """The window in integers: 255 (HU + 1350) / 1500, halves rounded up; HU in whole units."""
    inside = np.clip(hounsfield.astype(int) + 1350, 0, 1500)
    return ((2 * 255 * inside + 1500) // 3000).astype(np.uint8)


def read(data: bytes) -> slices.Slice:
    return slices.decode(data, "object.dcm")


def nested(depth: int) -> bytes:
    """A sequence in an item of a sequence, `depth` times, all of undefined length (PS3.5, 7.5)."""
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        head = struct.pack("<HH2sHI", 0x0008, 0x2112, b"SQ", 0, 0xFFFFFFFF)
        content = head + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return content


def before_patient_id(data: bytes, inserted: bytes) -> bytes:
    at = data.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    return data[:at] + inserted + data[at:]


@pytest.mark.parametrize(
    ("hounsfield", "grey"),
    # 255 / 1500 = 0.17 a unit: 50 units above the floor give 8.5, a half.
    [
        *((-3024, 0), (-1351, 0), (-1350, 0), (-1348, 0), (-1347, 1), (-1300, 9), (-601, 127), (-600, 128)),
        *((100, 247), (147, 254), (148, 255), (149, 255), (150, 255), (151, 255), (3071, 255)),
    ],
)
def test_lung_window_by_hand(hounsfield: int, grey: int) -> None:
    assert dicom.lung_window(np.array([float(hounsfield)])).tolist() == [grey]


def test_lung_window_of_every_hounsfield_unit() -> None:
    units = np.arange(-2000, 1001)
    assert np.array_equal(dicom.lung_window(units.astype(np.float64)), expected(units))


def test_signed_object(write_ct: WriteCT, stored: np.ndarray) -> None:
    one = read(write_ct(stored, slope=1, intercept=0))
    assert one.pixels.dtype == np.uint8
    assert np.array_equal(one.pixels, expected(stored))


def test_unsigned_object_with_intercept(write_ct: WriteCT, stored: np.ndarray) -> None:
    unsigned = (stored.astype(int) + 1400).astype(np.uint16)
    assert np.array_equal(read(write_ct(unsigned, slope=1, intercept=-1400)).pixels, expected(stored))


@pytest.mark.parametrize(("slope", "intercept"), [(2, -1000), (0.5, -700), (-1, 0)])
def test_slope_is_applied_before_the_intercept(
    write_ct: WriteCT, stored: np.ndarray, slope: float, intercept: int
) -> None:
    # Doubled units keep halves whole.
    doubled = (2 * slope * stored.astype(int) + 2 * intercept).astype(int)
    inside = np.clip(doubled + 2700, 0, 3000)
    assert np.array_equal(read(write_ct(stored, slope, intercept)).pixels, (2 * 255 * inside + 3000) // 6000)


def test_eight_bit_object(write_ct: WriteCT) -> None:
    raw = np.resize(np.arange(256, dtype=np.uint8), (40, 48))
    assert np.array_equal(read(write_ct(raw, 4, -1000)).pixels, expected(4 * raw.astype(int) - 1000))


def test_twelve_signed_bits_in_sixteen(write_ct: WriteCT) -> None:
    """Two's complement of twelve bits, the upper four not extended: PS3.5, 8.1.1."""
    values = np.resize(np.arange(-1400, 201), (40, 48))
    raw = (values & 0xFFF).astype(np.uint16)
    data = write_ct(raw, 1, 0, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(read(data).pixels, expected(values))


@pytest.mark.parametrize("name", ["ImplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"])
def test_transfer_syntaxes(write_ct: WriteCT, stored: np.ndarray, name: str) -> None:
    import pydicom.uid

    raw = stored.astype(">i2") if "Big" in name else stored
    assert np.array_equal(read(write_ct(raw, 1, 0, getattr(pydicom.uid, name))).pixels, expected(stored))


def test_run_length_encoded_object(write_ct: WriteCT, stored: np.ndarray) -> None:
    from io import BytesIO

    import pydicom

    compressed = pydicom.dcmread(BytesIO(write_ct(stored, 1, 0)))
    compressed.compress(pydicom.uid.RLELossless)
    buffer = BytesIO()
    compressed.save_as(buffer)
    assert np.array_equal(read(buffer.getvalue()).pixels, expected(stored))


@pytest.mark.parametrize(
    ("value", "limit", "signed"), [(4095, None, False), (3000, 4095, False), (4095, 3000, False), (2000, None, True)]
)
def test_padding_is_air_and_not_tissue(
    write_ct: WriteCT, stored: np.ndarray, value: int, limit: int | None, signed: bool
) -> None:
    """PS3.3, C.7.5.1.1.2: padding values, or a range of them, are no image; a bright one would be read as bone."""
    kind = np.int16 if signed else np.uint16
    pixels = np.minimum(stored.astype(np.int64) % 2000, 1999).astype(kind)
    inside = read(write_ct(pixels, intercept=-1024)).pixels
    padded = pixels.copy()
    padded[:5], padded[5:9] = value, value if limit is None else limit
    given = {"PixelPaddingValue": value} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    found = read(write_ct(padded, intercept=-1024, **given)).pixels
    assert (found[:9] == 0).all()
    assert np.array_equal(found[9:], inside[9:])
    assert (read(write_ct(padded, intercept=-1024)).pixels[:5] == 255).all()


def test_identifiers_are_kept(write_ct: WriteCT, stored: np.ndarray) -> None:
    root = "1.2.826.0.1.3680043.8.498"
    assert read(write_ct(stored)).dicom == dicom.DicomIds("patient-17", f"{root}.2", f"{root}.3", f"{root}.4")


def test_missing_identifiers_are_empty(write_ct: WriteCT, stored: np.ndarray) -> None:
    ids = read(write_ct(stored, PatientID=None, SeriesInstanceUID=None, StudyInstanceUID="")).dicom
    assert ids is not None
    assert (ids.patient, ids.study, ids.series) == ("", "", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Modality": "MR"}, "modality MR; CT is read"),
        ({"Modality": None}, "modality unknown"),
        ({"Modality": ""}, "modality unknown"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser"),
        ({"PixelData": None}, "without pixel data"),
        ({"RescaleSlope": None}, "Hounsfield"),
        ({"RescaleIntercept": None}, "Hounsfield"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"Rows": 8000}, "48 x 8000 px; the limit"),
        ({"Columns": 20}, "20 x 40 px; too small"),
        ({"Rows": None}, "damaged or unsupported DICOM"),
        ({"BitsAllocated": 13}, "damaged or unsupported DICOM"),
    ],
)
def test_what_is_no_axial_ct_slice_is_refused(
    write_ct: WriteCT, stored: np.ndarray, changes: dict, message: str
) -> None:
    with pytest.raises(InputRejected, match=message) as caught:
        read(write_ct(stored, **changes))
    assert str(caught.value).startswith("object.dcm: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modality", [b"M\nR ", b"\x1b[1m", b"MR\0\n"])
def test_text_of_the_file_comes_in_a_message_on_one_line(
    write_ct: WriteCT, stored: np.ndarray, modality: bytes
) -> None:
    element = b"\x08\x00\x60\x00CS"
    data = write_ct(stored)
    assert data.count(element + b"\x02\x00CT") == 1
    with warnings.catch_warnings(), pytest.raises(InputRejected) as caught:
        warnings.simplefilter("ignore")
        read(data.replace(element + b"\x02\x00CT", element + b"\x04\x00" + modality))
    assert str(caught.value).isprintable()


def test_long_text_of_the_file_is_cut_in_a_message(write_ct: WriteCT, stored: np.ndarray) -> None:
    element = b"\x08\x00\x60\x00CS"
    data = write_ct(stored).replace(element + b"\x02\x00CT", element + b"\x60\xea" + b"M" * 60_000)
    with warnings.catch_warnings(), pytest.raises(InputRejected) as caught:
        warnings.simplefilter("ignore")
        read(data)
    assert len(str(caught.value)) < 300


def test_colour_object_is_refused(write_ct: WriteCT) -> None:
    colour = np.zeros((40, 48, 3), np.uint8)
    with pytest.raises(InputRejected, match="colour"):
        read(write_ct(colour, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0))


@pytest.mark.parametrize("colours", ["PALETTE COLOR", "RGB", "YBR_FULL"])
def test_colour_interpretation_is_refused(write_ct: WriteCT, stored: np.ndarray, colours: str) -> None:
    """Stored values of a palette are indices, not Hounsfield units (PS3.3, C.7.6.3.1.2)."""
    with pytest.raises(InputRejected):
        read(write_ct(stored, PhotometricInterpretation=colours))


def test_rescale_to_something_else_than_hounsfield_units_is_refused(write_ct: WriteCT, stored: np.ndarray) -> None:
    """RescaleType other than HU, here electron density in 10^-3 (PS3.3, C.11.1.1.2)."""
    with pytest.raises(InputRejected):
        read(write_ct(stored, RescaleType="ED"))
    assert np.array_equal(read(write_ct(stored, 1, 0, RescaleType="HU")).pixels, expected(stored))


@pytest.mark.parametrize(
    ("tag", "value"),
    [(slope, value) for slope in (b"\x53\x10", b"\x52\x10") for value in (b"nan ", b"inf ", b"-inf")]
    + [(b"\x53\x10", b"0.0 ")],
)
def test_rescale_that_gives_no_hounsfield_units_is_refused(
    write_ct: WriteCT, stored: np.ndarray, tag: bytes, value: bytes
) -> None:
    """Neither a black nor a constant picture may come of it: that would be judged, as negative."""
    data = write_ct(stored, slope="1.00", intercept="1.00")
    element = b"\x28\x00" + tag + b"DS\x04\x00"
    assert data.count(element + b"1.00") == 1
    with pytest.raises(InputRejected):
        read(data.replace(element + b"1.00", element + value))


def test_every_truncation_is_refused(write_ct: WriteCT, stored: np.ndarray) -> None:
    data = write_ct(stored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for length in [*range(132, 800), *range(800, len(data), 61), *range(len(data) - 20, len(data))]:
            with pytest.raises(InputRejected):
                read(data[:length])


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_behind_a_preamble_are_refused(junk: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputRejected) as caught:
            read(PREAMBLE + junk)
    assert "\n" not in str(caught.value)


@given(st.integers(132, 900), st.binary(min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=400, deadline=None, suppress_health_check=SUPPRESSED)
def test_mutated_objects_give_a_slice_or_a_refusal(
    write_ct: WriteCT, stored: np.ndarray, position: int, junk: bytes, removed: int
) -> None:
    data = write_ct(stored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            one = read(data[:position] + junk + data[position + removed :])
        except InputRejected as error:
            assert "\n" not in str(error)
            return
    assert one.pixels.dtype == np.uint8
    assert one.pixels.ndim == 2
    assert 32 <= min(one.pixels.shape) <= max(one.pixels.shape) <= 4096


def test_nested_sequences(write_ct: WriteCT, stored: np.ndarray) -> None:
    """A few are read over; 300, more than Python's stack takes, are a refusal and not a crash."""
    data = write_ct(stored, 1, 0)
    assert np.array_equal(read(before_patient_id(data, nested(3))).pixels, expected(stored))
    for depth in (300, 5000):
        try:
            assert np.array_equal(read(before_patient_id(data, nested(depth))).pixels, expected(stored))
        except InputRejected as error:
            assert "\n" not in str(error)


def test_deflated_object_cannot_fill_the_memory(write_ct: WriteCT, stored: np.ndarray) -> None:
    """A quarter of a megabyte that inflates to 256 MiB, of which a private element holds nearly all."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    data = write_ct(stored, syntax=DeflatedExplicitVRLittleEndian)
    (length,) = struct.unpack_from("<I", data, 140)
    head, body = data[: 144 + length], zlib.decompress(data[144 + length :], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(body + struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"OB", 0, 256 << 20))
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    assert len(packed) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(InputRejected):
            read(head + packed)
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


def test_giant_object_is_refused_on_its_header(write_ct: WriteCT, stored: np.ndarray) -> None:
    data = write_ct(stored, Rows=60_000, Columns=60_000)
    start = time.perf_counter()
    with pytest.raises(InputRejected, match="60000 x 60000 px"):
        read(data)
    assert time.perf_counter() - start < 0.5


def test_missing_pydicom_names_the_extra(
    write_ct: WriteCT, stored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_ct(stored)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"reading DICOM needs pydicom: pip install 'edge-ct\[dicom\]'") as caught:
        read(data)
    assert caught.value.exit_code == 6


def test_other_formats_do_not_need_pydicom(
    encode: Callable[..., bytes], grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert np.array_equal(read(encode(grey, "PNG")).pixels, grey)


@pytest.mark.real
def test_real_series(real_data: Path) -> None:
    paths = sorted((real_data / "dicom" / "thorax-ct-series").glob("*.dcm"))
    assert len(paths) == 25
    read_ones = [slices.read(path) for path in paths]
    for one in read_ones:
        assert one.pixels.shape == (512, 512)
        assert one.pixels.dtype == np.uint8
        # A chest in a lung window: soft tissue (0 HU is 229.5) and dark air around and in it (-1024 HU is 55.4).
        assert 0.05 < (one.pixels > 200).mean() < 0.9
        assert 0.05 < (one.pixels <= 85).mean() < 0.9
    assert len({one.dicom.series for one in read_ones if one.dicom}) == 1
    assert len({one.sha256 for one in read_ones}) == 25


@pytest.mark.real
def test_real_slice_against_the_window_by_pydicom(real_data: Path) -> None:
    """pydicom's own VOI LUT, as linear exact, with the window set to the lung's."""
    import pydicom
    from pydicom.pixels import apply_rescale, apply_windowing

    path = sorted((real_data / "dicom" / "thorax-ct-series").glob("*.dcm"))[12]
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = -600, 1500, "LINEAR_EXACT"
    rescaled = apply_rescale(dataset.pixel_array, dataset)
    # pydicom maps the window to the full range of the rescaled values; two pixels at the window's ends tell it.
    ends = np.array([[-1350.0, 150.0]])
    (low, high), *_ = apply_windowing(ends, dataset)
    window = (apply_windowing(rescaled.astype(np.float64), dataset) - low) / (high - low) * 255
    assert np.abs(window - slices.read(path).pixels).max() <= 0.5 + 1e-6


def test_no_two_hounsfield_steps_are_out_of_order() -> None:
    greys = dicom.lung_window(np.arange(-1400, 200, 0.25)).astype(int)
    assert all(first <= second <= first + 1 for first, second in itertools.pairwise(greys.tolist()))
