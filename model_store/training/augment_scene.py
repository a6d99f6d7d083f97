"""What the detector sees of an image: scaled, squeezed, shifted, mirrored, four in one. Pure functions, as `augment`'s."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from model_store.training.data.scenes import PAD
from model_store.training.recipe import DetectorAugmentation
from posewire.imaging.geometry import apply_affine, clip_boxes
from posewire.types import FloatArray, UInt8Array

# A person of whom less is left in the image, as a share of the box, is not asked for; nor one so small, pixels.
_LEAST_LEFT = 0.25
_NARROWEST, _LOWEST = 3, 5


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """An image and everybody in it."""

    pixels: UInt8Array  # (H, W, 3), RGB
    boxes_xyxy: FloatArray  # (people, 4), pixels


def place(shown: Shown, size: int, how: DetectorAugmentation, rng: np.random.Generator, *, stretched: bool) -> Shown:
    """Put an image somewhere on a square of `size` pixels, partly outside if it is larger.

    Args:
        shown: the image.
        size: pixels a side.
        how: bounds of scale and aspect.
        rng: chance.
        stretched: the image's own aspect is lost; one of a camera's is given to it.
    """
    height, width = shown.pixels.shape[:2]
    scale = size / max(height, width) * _between(how.smallest, how.largest, rng)
    aspect = _between(how.narrowest, how.widest, rng) if stretched else _between(1 / how.squeeze, how.squeeze, rng)
    across, down = scale * math.sqrt(aspect), scale / math.sqrt(aspect)
    left, top = rng.random() * (size - width * across), rng.random() * (size - height * down)
    affine = np.array([[across, 0, left], [0, down, top]], np.float32)
    mirrored = rng.random() < how.mirror
    if mirrored:
        # Boxes end at the edges of pixels, images at their middles.
        affine[0] = [-across, 0, size - left]
    corners = apply_affine(affine, shown.boxes_xyxy.reshape(-1, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    to_pixels = affine.astype(np.float64)
    to_pixels[:, 2] += (to_pixels[:, :2].sum(1) - 1) / 2
    pixels = cv2.warpAffine(shown.pixels, to_pixels, (size, size), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD))
    return Shown(np.asarray(pixels, np.uint8), _left_over(boxes, size))


def mosaic(four: Sequence[Shown]) -> Shown:
    """Four squares of one size as one of twice the side."""
    side = len(four[0].pixels)
    rows = [np.concatenate([a.pixels, b.pixels], 1) for a, b in (four[:2], four[2:])]
    corners = [(0, 0), (side, 0), (0, side), (side, side)]
    boxes = [shown.boxes_xyxy + np.array([*corner, *corner], np.float32) for shown, corner in zip(four, corners, strict=True)]
    return Shown(np.concatenate(rows), np.concatenate(boxes))


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """Even in the logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _left_over(boxes: FloatArray, size: int) -> FloatArray:
    """The boxes cut to the square, of those of whom enough is in it."""
    inside = clip_boxes(boxes, size, size)
    before, after = boxes[:, 2:] - boxes[:, :2], inside[:, 2:] - inside[:, :2]
    enough = after.prod(1) > _LEAST_LEFT * before.prod(1)
    return np.asarray(inside[enough & (after[:, 0] > _NARROWEST) & (after[:, 1] > _LOWEST)], np.float32)
