"""What an object says of its frames, and which are not judged."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pydicom
import pytest

from edge_ct.device_app.judging import dicom_frames

MakeCT = Callable[..., bytes]


def attributes_of(data: bytes) -> dicom_frames.FrameAttributes:
    (one,) = dicom_frames.read_frame_attributes(pydicom.dcmread(BytesIO(data)))
    return one


def test_attributes_of_a_slice(make_ct: MakeCT) -> None:
    one = attributes_of(make_ct(2, NumberOfSeriesRelatedInstances=8))
    assert (one.along, one.thickness, one.spacing, one.number, one.expected) == (490.0, 5.0, (1.5, 1.5), 3, 8)
    assert one.frame == 0
    assert one.key == one.instance
    assert dicom_frames.reason_to_skip(one) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "a derived image (DERIVED/SECONDARY/MPR)"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "a derived image"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not an axial slice"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not an axial slice"),
        ({"BodyPartExamined": "HEAD"}, "body part HEAD, not the chest"),
        ({"BodyPartExamined": "UPPER LEG"}, "body part UPPER LEG, not the chest"),
        ({"Modality": "MR"}, "modality MR, not CT"),
    ],
)
def test_what_is_skipped(make_ct: MakeCT, changes: dict[str, Any], reason: str) -> None:
    assert str(dicom_frames.reason_to_skip(attributes_of(make_ct(**changes)))).startswith(reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageType": None},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"], "LossyImageCompression": "01"},
        {"ImageOrientationPatient": None},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0.9063, -0.4226]},  # a gantry tilted by 25 degrees
        {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]},  # prone
        {"BodyPartExamined": None},
        {"BodyPartExamined": "CHEST_ABDOMEN"},
        {"BodyPartExamined": "TH CT CHEST WO C"},
        {"BodyPartExamined": "SHOULDERBLADE"},
    ],
)
def test_what_is_not_skipped(make_ct: MakeCT, changes: dict[str, Any]) -> None:
    assert dicom_frames.reason_to_skip(attributes_of(make_ct(**changes))) is None


def test_order_is_from_the_head_down_whatever_the_numbers_say(make_ct: MakeCT) -> None:
    numbered = [attributes_of(make_ct(index, InstanceNumber=100 - index)) for index in (4, 0, 3, 1)]
    assert [one.along for one in sorted(numbered, key=dicom_frames.acquisition_order)] == [500, 495, 485, 480]
    unplaced = [attributes_of(make_ct(index, ImagePositionPatient=None)) for index in (4, 0)]
    assert [one.number for one in sorted([*unplaced, *numbered], key=dicom_frames.acquisition_order)][-2:] == [1, 5]


def test_values_that_make_no_sense_are_none(make_ct: MakeCT) -> None:
    dataset = pydicom.dcmread(BytesIO(make_ct()))
    dataset.ImagePositionPatient = [1, 2]
    dataset.SliceThickness = 0
    (one,) = dicom_frames.read_frame_attributes(dataset)
    assert (one.position, one.along, one.thickness) == (None, None, None)
