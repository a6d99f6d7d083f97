"""Crops of people for the calibration of a pose model: the same at every call, cropped as when serving."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posewire.errors import PosewireError, ServiceError
from posewire.files import read_plain
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.types import FloatArray, Frame, UInt8Array

# Fewer people do not represent the ranges of the activations.
FEWEST = 16

# People of one image: a crowd must not fill the set.
_MAX_PER_IMAGE = 4

# Boxes (N, 4) float32, x y w h, pixels of the upright image, best first.
Boxes = Callable[[Path, Frame], FloatArray]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one encoded image."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """The crops that were chosen."""

    crops: list[UInt8Array]  # (h, w, 3) uint8 RGB each
    images: int  # number of the images that the crops are from


def choose(
    paths: Sequence[Path], boxes: Boxes, pose: PoseEstimator, count: int, limits: Limits, advance: Callable[[], None]
) -> CalibrationSet:
    """Crop `count` people, at most four of an image. The order of the images is shuffled, but always the same.

    Args:
        paths: of the images.
        boxes: returns the people of an image.
        pose: crops them.
        count: of people; fewer are taken if there are fewer.
        limits: of an image.
        advance: called after every person.

    Raises:
        PosewireError: an image cannot be decoded, there are no people, or there are fewer than `FEWEST` people.
    """
    crops: list[UInt8Array] = []
    used = 0
    for path in random.Random(0).sample(sorted(paths), len(paths)):  # noqa: S311 - no secret
        if len(crops) == count:
            break
        frame = read(path, limits)
        found = boxes(path, frame)[: min(_MAX_PER_IMAGE, count - len(crops))]
        used += bool(len(found))
        for crop in pose.crop(frame, found):
            crops.append(crop.pixels)
            advance()
    if not crops:
        raise PosewireError(f"no people on {len(paths)} images: give images with people, or their boxes with --annotations")
    if len(crops) < FEWEST:
        raise PosewireError(f"only {len(crops)} people on {len(paths)} images; calibration needs {FEWEST} or more: give more images")
    return CalibrationSet(crops, used)


def read(path: Path, limits: Limits) -> Frame:
    """Read and decode an image file.

    Raises:
        PosewireError: the file cannot be read or decoded; the message names it.
    """
    try:
        return decode(read_plain(path, limits.max_bytes), max_bytes=limits.max_bytes, max_pixels=limits.max_pixels)
    except ServiceError as error:
        raise PosewireError(f"{path}: {error.detail}") from None


def detected(detector: Detector, min_score: float) -> Boxes:
    """Return the boxes that the detector finds."""

    def boxes(_: Path, frame: Frame) -> FloatArray:
        letterboxed = detector.preprocess(frame)
        (raw,) = detector.infer([letterboxed.pixels])
        return xyxy_to_xywh(detector.postprocess(raw, letterboxed.scale, frame, min_score, _MAX_PER_IMAGE).boxes_xyxy)

    return boxes


def annotated(boxes_of: dict[Path, FloatArray]) -> Boxes:
    """Return the annotated boxes, the largest first."""

    def boxes(path: Path, _: Frame) -> FloatArray:
        known = boxes_of[path]
        return known[np.argsort(-known[:, 2] * known[:, 3], kind="stable")]

    return boxes
