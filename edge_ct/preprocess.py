"""The one path from a slice to the input of a network: training, calibration, evaluation and the device all use it.

Every step is exact integer arithmetic, so that an Arm device and an x86-64 server compute the same bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from .imaging.exact_resize import resize_exact
from .imaging.lung_box import Box, LungFields, find_lung_fields

Crop = Literal["none", "lungs"]


class Preprocess(msgspec.Struct, frozen=True):
    """The conversion of a slice to the input of a network; it is stored in the run folder and in the bundle.

    Attributes:
        size: Side of the square input in pixels; the aspect ratio is not kept.
        resize: `box-linear-exact`: each side is divided by the largest power of two that leaves at least `size`, as a
            block mean rounded half up; OpenCV's `INTER_LINEAR_EXACT` does the rest.
        scale: The network computes with `(byte - zero_point) * scale`. An int8 graph has these two numbers as the
            quantisation of its input, so that a device feeds bytes and needs no floating-point arithmetic.
        zero_point: See `scale`.
        crop: `lungs`: the slice is cropped to the rectangle around its lungs before it is resized. A slice in which no
            lungs are found is not cropped.
        margin: Width added to each side of that rectangle, in percent of its longer side.
    """

    size: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    resize: Literal["box-linear-exact"] = "box-linear-exact"
    scale: float = 1 / 127.5
    zero_point: int = 128
    crop: Crop = "none"
    margin: Annotated[int, msgspec.Meta(ge=0, le=100)] = 6

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Convert a slice, uint8 [h, w], to the input of the network, uint8 [size, size, 1]."""
        return self.resized(pixels, self.region(pixels))

    def region(self, pixels: np.ndarray) -> Box:
        """Return the part of a slice, uint8 [h, w], that the network sees."""
        return self.region_around(find_lung_fields(pixels) if self.crop == "lungs" else None, *pixels.shape)

    def region_around(self, lungs: LungFields | None, height: int, width: int) -> Box:
        """Return the part of a slice that the network sees, where its lungs are known already.

        Args:
            lungs: What `find_lung_fields` finds in the slice.
            height: Height of the slice in pixels.
            width: Width of the slice in pixels.
        """
        if lungs is None or self.crop == "none":
            return Box(0, height, 0, width)
        return lungs.box.grown(self.margin, height, width)

    def resized(self, pixels: np.ndarray, region: Box | None = None) -> np.ndarray:
        """Crop and resize a picture, uint8 [h, w], such as a mask in the frame of a slice, to uint8 [size, size, 1].

        Args:
            pixels: The slice, or a picture of the same shape.
            region: What `region` gives for the slice; None for a picture that has been cropped already.
        """
        if region is not None:
            pixels = region.cut(pixels)
        return resize_exact(pixels, self.size, self.size)[:, :, np.newaxis]

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """Compute what the input quantisation of the graph stands for: uint8 [...] -> float32 [...]."""
        return (images.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
