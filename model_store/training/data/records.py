"""What every loader gives: people with keypoints for the pose network, images with boxes for the detector."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from posewire.errors import PosewireError
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.types import FloatArray, UInt8Array


@dataclass(frozen=True, slots=True)
class Stretched:
    """A file whose image was stretched, and what it was before."""

    path: Path
    width: int  # pixels
    height: int  # pixels

    def __str__(self) -> str:
        return f"{self.path}@{self.width}x{self.height}"


# A file, or (H, W, 3) uint8 RGB.
StoredImage: TypeAlias = Path | Stretched | UInt8Array

JOINTS = KEYPOINT_SETS["coco-17"]
KEYPOINTS = len(JOINTS.names)

# COCO names its images by twelve digits; sets made of COCO keep them somewhere in the name.
_COCO_NAME = re.compile(r"(?<!\d)\d{12}(?!\d)")


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person of an image. Coordinates are pixels of what `read_image` gives."""

    image: StoredImage
    box_xywh: FloatArray  # (4,) float32
    keypoints_xy: FloatArray  # (17, 2) float32
    weights: FloatArray  # (17,) float32, 0..1: how far each keypoint is to be believed; 0: unknown
    source: str  # the set
    id: str  # of the image, as `image_id` gives it


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One image and everybody in it. Coordinates are pixels of what `read_image` gives."""

    image: StoredImage
    boxes_xywh: FloatArray  # (N, 4) float32
    source: str  # the set
    id: str  # of the image, as `image_id` gives it
    labelled: bool = True  # False: nobody has said who is in it


def coco_number(path: Path) -> str | None:
    """The twelve digits in the name of an image of COCO."""
    digits = _COCO_NAME.search(path.name)
    return digits.group() if digits else None


def image_id(path: Path, source: str) -> str:
    """`coco/` and twelve digits if the name has them, for they name the same image in every set; else `source/stem`."""
    number = coco_number(path)
    return f"coco/{number}" if number else f"{source}/{path.stem}"


def read_image(image: StoredImage) -> UInt8Array:
    """(H, W, 3) uint8 RGB: as stored (annotations are drawn on pixels that no EXIF orientation has turned), but not stretched.

    Raises:
        PosewireError: there is no such file, or it is not an image.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Stretched):
        squeezed = read_image(image.path)
        return np.asarray(cv2.resize(squeezed, (image.width, image.height), interpolation=cv2.INTER_CUBIC), np.uint8)
    pixels = cv2.imread(str(image), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION) if image.is_file() else None
    if pixels is None:
        raise PosewireError(f"{image} is not an image that can be read: put it back or take it out of the set")
    return np.asarray(pixels, np.uint8)


def swap_sides(per_joint: FloatArray) -> FloatArray:
    """(…, 17, C) with the left and the right joints changed over, as in a mirrored image."""
    return per_joint[..., JOINTS.mirrored, :]
