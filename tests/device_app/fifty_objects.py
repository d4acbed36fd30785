"""Objects of many kinds as files in memory: what is a CT slice, what is none, and what is damaged. All are phantoms."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_ct.phantom import make_slice

from .. import hostile

ROOT = "1.2.826.0.1.3680043.8.498.50"
SIDE = 128
CT_ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"
IMPLICIT, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
JPEG_2000, JPEG_LS, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"


class _Numbers:
    """Gives each object a phantom of its own, so that no two have the same pixels or identifiers."""

    def __init__(self) -> None:
        self.last = 0

    def grey(self) -> np.ndarray:
        self.last += 1
        return make_slice(self.last, 3, self.last % 2 == 0, SIDE).image


def _ct(number: int, grey: np.ndarray, **more: Any) -> Any:
    return hostile.ct(
        grey,
        **{
            "SOPInstanceUID": f"{ROOT}.{number}.3",
            "SeriesInstanceUID": f"{ROOT}.{number}.2",
            "StudyInstanceUID": f"{ROOT}.{number}.1",
            "PatientID": f"phantom {number}",
            **more,
        },
    )


def _item(**values: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _enhanced(number: int, greys: list[np.ndarray], transforms: list[Any] | None = None) -> Any:
    """An Enhanced CT object. transforms: rescale slope and type of each frame."""
    dataset = _ct(number, greys[0], SOPClassUID=CT_ENHANCED, NumberOfFrames=len(greys))
    dataset.file_meta.MediaStorageSOPClassUID = CT_ENHANCED
    for name in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[_item(PixelSpacing=[0.7, 0.7], SliceThickness=1)],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, -5 * index])],
            PixelValueTransformationSequence=[_item(RescaleSlope=slope, RescaleIntercept=-1400, RescaleType=kind)],
        )
        for index, (slope, kind) in enumerate(transforms or [(1, "HU")] * len(greys))
    ]
    dataset.PixelData = b"".join(_ct(0, grey).PixelData for grey in greys)
    return dataset


def _encapsulated(dataset: Any, syntax: str, frames: list[bytes]) -> Any:
    from pydicom.encaps import encapsulate

    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def _jpeg_ls(grey: np.ndarray) -> bytes:
    import jpeg_ls

    stored = np.frombuffer(_ct(0, grey).PixelData, "<u2").reshape(grey.shape)
    return bytes(jpeg_ls.encode_array(stored))


def _other_syntax(dataset: Any, syntax: str) -> Any:
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == BIG_ENDIAN:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    return dataset


def _dicom() -> Iterator[tuple[str, bytes]]:
    numbers = _Numbers()

    def ct(grey: np.ndarray | None = None, **more: Any) -> Any:
        pixels = numbers.grey()
        return _ct(numbers.last, pixels if grey is None else grey, **more)

    def without(*names: str) -> Any:
        dataset = ct()
        for name in names:
            delattr(dataset, name)
        return dataset

    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    sound = {
        "chest": ct(),
        "chest, inverse display": ct(PhotometricInterpretation="MONOCHROME1"),
        "chest, implicit": _other_syntax(ct(), IMPLICIT),
        "chest, deflated": _other_syntax(ct(), DEFLATED),
        "chest, big endian": _other_syntax(ct(), BIG_ENDIAN),
        "chest, lossy": ct(ImageType=["DERIVED", "PRIMARY", "AXIAL"], LossyImageCompression="01"),
        "chest, of the body": ct(BodyPartExamined="CHEST_TO_PELVIS"),
        "no lung": ct(grey=np.where(x**2 + y**2 < 45**2, 235, 0).astype(np.uint8)),
        "lungs full of fluid": ct(grey=np.maximum(make_slice(2, 3, True, SIDE).image, 200)),
        "abdomen": ct(BodyPartExamined="ABDOMEN"),
        "head": ct(BodyPartExamined="HEAD"),
        "derived": ct(ImageType=["DERIVED", "SECONDARY", "AXIAL"]),
        "localiser": ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "sagittal": ct(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "no rescale": without("RescaleSlope", "RescaleIntercept"),
        "optical density": ct(RescaleType="OD"),
        "slope of zero": ct(RescaleSlope=0),
        "no identifiers": without("StudyInstanceUID", "SeriesInstanceUID", "PatientID"),
        "no instance": without("SOPInstanceUID"),
        "no pixels": without("PixelData"),
        "small": ct(grey=make_slice(3, 3, True, 64).image[:20, :20]),
        "other magnetic resonance": ct(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
        "secondary capture": ct(Modality="OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
        "colour": ct(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
    }
    padded = ct(PixelPaddingValue=4095)
    stored = np.frombuffer(padded.PixelData, "<u2").reshape(SIDE, SIDE).copy()
    stored[x**2 + y**2 > (SIDE / 2) ** 2] = 4095
    padded.PixelData = stored.tobytes()
    sound["padding"] = padded
    marked = numbers.grey()
    cv2.putText(marked, "PHANTOM", (4, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    sound["burnt-in text"] = _ct(numbers.last, marked, BurnedInAnnotation="YES")
    for name, syntax in (("RLE", RLE), ("JPEG 2000", JPEG_2000)):
        sound[name] = ct()
        sound[name].compress(syntax, generate_instance_uid=False)
    grey = numbers.grey()
    sound["JPEG-LS"] = _encapsulated(_ct(numbers.last, grey), JPEG_LS, [_jpeg_ls(grey)])
    taller = _jpeg_ls(np.vstack([np.zeros((44, SIDE), np.uint8), grey]))
    sound["frame of another size"] = _encapsulated(ct(), JPEG_LS, [taller])
    greys = [numbers.grey() for _ in range(4)]
    sound["frames"] = _enhanced(numbers.last, greys[1:])
    codes = [_jpeg_ls(each) for each in greys]
    sound["frames, one of another size"] = _encapsulated(
        _enhanced(numbers.last + 1, greys), JPEG_LS, [codes[0], taller, codes[2], codes[3]]
    )
    sound["frames, one damaged"] = _encapsulated(
        _enhanced(numbers.last + 2, greys), JPEG_LS, [codes[1], codes[0], codes[3][: len(codes[3]) // 2], codes[2]]
    )
    sound["frames, one without Hounsfield units"] = _enhanced(
        numbers.last + 3, [greys[3], greys[2], greys[0]], [(1, "HU"), (1, "US"), (0, "HU")]
    )
    sound["frames, the last missing"] = _enhanced(numbers.last + 4, [greys[2], greys[0], greys[1]])
    sound["frames, the last missing"].PixelData = sound["frames, the last missing"].PixelData[:-5000]
    for name, dataset in sound.items():
        buffer = BytesIO()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or f"{ROOT}.0"
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.save_as(buffer, enforce_file_format=True)
        yield f"{name}.dcm", buffer.getvalue()
    numbers.last += 10
    whole = hostile.saved(ct())
    yield "cut.dcm", whole[:-4000]
    yield "no preamble.dcm", hostile.saved(ct())[132:]
    bare = ct()
    del bare.file_meta
    for name, implicit in (("no preamble, implicit", True), ("no preamble, explicit", False)):
        bare.PixelData = ct().PixelData
        bare.SOPInstanceUID = f"{ROOT}.{numbers.last}.3"
        buffer = BytesIO()
        bare.save_as(buffer, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        yield f"{name}.dcm", buffer.getvalue()
    yield "noise.dcm", whole[:140] + bytes(np.random.default_rng(1).integers(0, 256, 900, np.uint8))
    yield "answer of a server.png", b"HTTP/1.1 200 OK\r\n\r\n" + hostile.saved(ct())
    numbers.last += 10
    others = {
        "slope below zero": ct(RescaleSlope=-1),
        "intercept beyond all units": ct(RescaleIntercept=1e300),
        "one row more than there are pixels": ct(Rows=SIDE + 1),
        "topogram": ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"]),
        "reformatted": ct(ImageType=["DERIVED", "PRIMARY", "MPR"]),
        "tilted gantry": ct(ImageOrientationPatient=[1, 0, 0, 0, 0.9, 0.43]),
        "turned in its plane": ct(ImageOrientationPatient=[0.7071, 0.7071, 0, -0.7071, 0.7071, 0]),
        "no spacing": ct(PixelSpacing=[0, 0]),
        "all air": ct(grey=np.zeros((SIDE, SIDE), np.uint8)),
        "all bone": ct(grey=np.full((SIDE, SIDE), 255, np.uint8)),
        "inverted values": ct(grey=255 - numbers.grey()),
        "feet first": ct(grey=np.flipud(numbers.grey()).copy()),
    }
    greys = [numbers.grey(), numbers.grey()]
    others["more frames than it describes"] = _enhanced(numbers.last + 5, greys)
    others["more frames than it describes"].NumberOfFrames = 5
    for name, dataset in others.items():
        yield f"{name}.dcm", hostile.saved(dataset)


def _pictures() -> Iterator[tuple[str, bytes]]:
    numbers = _Numbers()
    numbers.last = 200

    def encoded(kind: str, image: np.ndarray | None = None, **options: Any) -> bytes:
        buffer = BytesIO()
        Image.fromarray(numbers.grey() if image is None else image).save(buffer, kind, **options)
        return buffer.getvalue()

    yield "grey.png", encoded("PNG")
    yield "grey.jpg", encoded("JPEG", quality=92)
    yield "progressive.jpeg", encoded("JPEG", quality=92, progressive=True)
    yield "grey.tif", encoded("TIFF")
    yield "lzw.tiff", encoded("TIFF", compression="tiff_lzw")
    yield "packbits.tiff", encoded("TIFF", compression="packbits")
    yield "window of 16 bits.png", encoded("PNG", numbers.grey().astype(np.uint16) * 257)
    yield "values of 12 bits.png", encoded("PNG", numbers.grey().astype(np.uint16) * 16)
    grey = numbers.grey()
    yield "colour mode.png", encoded("PNG", np.dstack([grey] * 3))
    grey = numbers.grey()
    yield "transparent.png", encoded("PNG", np.dstack([*[grey] * 3, grey // 2]))
    yield "heat map.png", encoded("PNG", cv2.applyColorMap(numbers.grey(), cv2.COLORMAP_JET))
    palette = Image.fromarray(numbers.grey()).quantize(64)
    buffer = BytesIO()
    palette.save(buffer, "PNG")
    yield "palette.png", buffer.getvalue()
    yield "animation.gif", encoded("GIF")
    yield "bitmap.bmp", encoded("BMP")
    yield "web.webp", encoded("WEBP")
    yield "boxes.jp2", encoded("JPEG2000")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for centre in (40, 88):
        cv2.ellipse(mask, (centre, 64), (18, 36), 0, 0, 360, 255, -1)
    yield "mask.png", encoded("PNG", mask)
    text = np.full((SIDE, SIDE), 255, np.uint8)
    for line in range(6):
        cv2.putText(text, f"report {line}", (4, 18 * line + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1)
    yield "text.png", encoded("PNG", text)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    ribs = (
        140 + 60 * np.sin(x * 3.1) - 50 * np.exp(-(((x - 0.3) / 0.12) ** 2)) - 50 * np.exp(-(((x - 0.7) / 0.12) ** 2))
    )
    yield "X-ray.png", encoded("PNG", np.clip(ribs + 20 * np.sin(y * 40), 0, 255).astype(np.uint8))
    typed = Image.new("L", (SIDE, SIDE), 255)
    for top in range(0, SIDE, 16):
        ImageDraw.Draw(typed).text((4, top), f"Findings {top}: none", 0, ImageFont.load_default(12))
    yield "typed.png", encoded("PNG", np.asarray(typed))
    noise = np.random.default_rng(4).normal(0, 10, mask.shape)
    yield "mask with noise.png", encoded("PNG", np.clip(220 - 0.7 * mask + noise, 0, 255).astype(np.uint8))
    yield "two slices.png", encoded("PNG", np.hstack([numbers.grey(), numbers.grey()]))
    buffer = BytesIO()
    Image.fromarray(numbers.grey()).save(buffer, "PNG", save_all=True, append_images=[typed])
    yield "animated.png", buffer.getvalue()
    buffer = BytesIO()
    Image.fromarray(numbers.grey()).save(buffer, "MPO", save_all=True, append_images=[typed])
    yield "stereo.jpg", buffer.getvalue()
    yield "inks.tif", encoded("TIFF", np.asarray(Image.fromarray(np.dstack([numbers.grey()] * 3)).convert("CMYK")))
    yield "values of 14 bits.png", encoded("PNG", numbers.grey().astype(np.uint16) * 64)
    yield "flat.png", encoded("PNG", np.full((SIDE, SIDE), 77, np.uint8))
    yield "tiny.png", encoded("PNG", numbers.grey()[:16, :16])
    yield "cut.png", encoded("PNG")[:-900]
    yield "cut.jpg", encoded("JPEG")[:-900]
    whole = encoded("JPEG", quality=92)
    yield "lost half.jpg", whole[: len(whole) // 2] + b"\xff\xd9"
    whole = encoded("TIFF", compression="tiff_lzw")
    yield "zeroed block.tif", whole[:2000] + bytes(1000) + whole[3000:]
    pages = [Image.fromarray(numbers.grey()) for _ in range(3)]
    buffer = BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    yield "three pages.tif", buffer.getvalue()
    yield "planes of 16 bits.tif", _planar(numbers.grey().astype("<u2") * 257)
    numbers.last += 10
    yield "inverted.png", encoded("PNG", 255 - numbers.grey())
    grey = numbers.grey()
    yield "sepia.jpg", encoded("JPEG", np.dstack([grey, grey * 0.8, grey * 0.6]).astype(np.uint8), quality=95)
    yield "fractions.tif", encoded("TIFF", numbers.grey().astype(np.float32) / 255)
    yield "whole numbers.tif", encoded("TIFF", numbers.grey().astype(np.int32) * 100)
    yield "black and white.png", encoded("PNG", np.asarray(Image.fromarray(numbers.grey()).convert("1")))
    yield (
        "four views.png",
        encoded("PNG", np.vstack([np.hstack([numbers.grey()] * 2), np.hstack([numbers.grey()] * 2)])),
    )
    screen = cv2.copyMakeBorder(numbers.grey(), 30, 10, 100, 100, cv2.BORDER_CONSTANT, value=240)
    yield "screen.png", encoded("PNG", screen)
    hot = numbers.grey().astype(np.uint16) * 8
    hot[3, 3], hot[90, 4] = 65535, 60000
    yield "hot pixels.png", encoded("PNG", hot)
    yield "offset.png", encoded("PNG", numbers.grey().astype(np.uint16) * 4 + 31744)
    whole = encoded("PNG")
    yield "flipped bit.png", whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]
    yield "JPEG inside.tif", encoded("TIFF", compression="jpeg")
    yield "login.png", b"<!doctype html><html>Sign in</html>" * 20
    yield "empty.png", b""
    yield "letter.jpg", b"Dear colleague,\n"
    yield "document.png", b"%PDF-1.7\n" + bytes(400)


def _planar(grey: np.ndarray) -> bytes:
    """A TIFF of three equal planes of 16 bits."""
    height, width = grey.shape
    plane = grey.tobytes()
    tags = {256: [width], 257: [height], 258: [16] * 3, 259: [1], 262: [2], 273: [0] * 3, 277: [3], 278: [height]}
    tags |= {279: [len(plane)] * 3, 284: [2]}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = [start + 36 + number * len(plane) for number in range(3)]
    entries, values = b"", b""
    for tag, numbers in tags.items():
        place = numbers[0] if len(numbers) == 1 else start + len(values)
        entries += struct.pack("<HHII", tag, 4, len(numbers), place)
        values += b"" if len(numbers) == 1 else struct.pack(f"<{len(numbers)}I", *numbers)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values + plane * 3


def fifty_objects() -> dict[str, bytes]:
    """Return the objects by their names; those in DICOM end in `.dcm`."""
    return {**dict(_dicom()), **dict(_pictures())}
