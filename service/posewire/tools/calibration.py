"""Crops of people to calibrate a pose model on: the same ones every time, cut as when serving."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posewire.errors import PosewireError, ServiceError
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.types import FloatArray, Frame, UInt8Array

# From fewer people the ranges of activations are chance.
FEWEST = 16

# Of one picture, so that a crowd does not fill the set.
_MOST_OF_A_PICTURE = 4

# Boxes (N, 4) float32, x y w h, pixels of the upright picture, best first.
Boxes = Callable[[Path, Frame], FloatArray]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one encoded picture."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """What was chosen."""

    crops: list[UInt8Array]  # (h, w, 3) uint8 RGB each
    pictures: int  # that they were cut out of


def choose(
    paths: Sequence[Path], boxes: Boxes, pose: PoseEstimator, count: int, limits: Limits, advance: Callable[[], None]
) -> CalibrationSet:
    """Cut `count` people out of pictures taken in an order that is shuffled but always the same; at most four of a picture.

    Args:
        paths: of the pictures.
        boxes: gives the people of a picture.
        pose: cuts them.
        count: of people; fewer are taken where there are fewer.
        limits: of a picture.
        advance: called with every person.

    Raises:
        PosewireError: a picture cannot be decoded, there is nobody, or there are fewer than `FEWEST` people.
    """
    crops: list[UInt8Array] = []
    used = 0
    for path in random.Random(0).sample(sorted(paths), len(paths)):  # noqa: S311 - no secret
        if len(crops) == count:
            break
        frame = read(path, limits)
        found = boxes(path, frame)[: min(_MOST_OF_A_PICTURE, count - len(crops))]
        used += bool(len(found))
        for crop in pose.crop(frame, found):
            crops.append(crop.pixels)
            advance()
    if not crops:
        raise PosewireError(f"no people on {len(paths)} pictures: give pictures with people, or their boxes with --annotations")
    if len(crops) < FEWEST:
        raise PosewireError(f"only {len(crops)} people on {len(paths)} pictures; calibration needs {FEWEST} or more: give more pictures")
    return CalibrationSet(crops, used)


def read(path: Path, limits: Limits) -> Frame:
    """Decode a picture of the disk.

    Raises:
        PosewireError: it cannot be read or decoded; names it.
    """
    try:
        return decode(path.read_bytes(), max_bytes=limits.max_bytes, max_pixels=limits.max_pixels)
    except ServiceError as error:
        raise PosewireError(f"{path}: {error.detail}") from None
    except OSError as error:
        raise PosewireError(f"{path} cannot be read: {error.strerror}") from None


def detected(detector: Detector, min_score: float) -> Boxes:
    """People as the detector finds them."""

    def boxes(_: Path, frame: Frame) -> FloatArray:
        letterboxed = detector.preprocess(frame)
        (raw,) = detector.infer([letterboxed.pixels])
        return xyxy_to_xywh(detector.postprocess(raw, letterboxed.scale, frame, min_score, _MOST_OF_A_PICTURE).boxes_xyxy)

    return boxes


def annotated(boxes_of: dict[Path, FloatArray]) -> Boxes:
    """People as they are annotated, the largest first."""

    def boxes(path: Path, _: Frame) -> FloatArray:
        known = boxes_of[path]
        return known[np.argsort(-known[:, 2] * known[:, 3], kind="stable")]

    return boxes
