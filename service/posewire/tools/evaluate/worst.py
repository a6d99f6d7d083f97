"""The images with the worst predictions, drawn with their annotations and their predictions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from posewire.imaging.draw import Look, draw_poses, encode
from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.calibration import Limits, read
from posewire.tools.evaluate.annotations import Row
from posewire.tools.evaluate.joints import Found
from posewire.types import FloatArray, Keypoints, Pose, UInt8Array

_SHOWN_SCORE = 0.2  # as the service draws
_SIDE = 420  # pixels of the longer side
_MARGIN = 0.15  # around the people, in units of the longer side of their area

# A box x0 y0 x1 y1.
_Corners = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One image, drawn twice."""

    name: str
    oks: tuple[float, ...]  # of its people; 0: no prediction
    annotated: bytes  # JPEG
    found: bytes  # JPEG


def worst(everyone: Sequence[Found], keypoints: KeypointSet, count: int, limits: Limits) -> Iterator[Shown]:
    """Yield the `count` images of the lowest mean OKS, the worst first, cropped to their annotated people.

    Raises:
        PosewireError: an image cannot be read.
    """
    look = Look.of(keypoints.names, keypoints.skeleton, keypoints.colours, keypoints.small)
    people_of: dict[int, list[Found]] = defaultdict(list)
    for found in everyone:
        people_of[found.image.image_id].append(found)
    for people in sorted(people_of.values(), key=lambda people: np.mean([found.oks for found in people]))[:count]:
        yield _shown(people, look, limits)


def _shown(people: Sequence[Found], look: Look, limits: Limits) -> Shown:
    path = people[0].image.path
    pixels, scale, offset = _crop(read(path, limits).pixels, _around(people))
    true = [_pose(f.person.box_xywh, f.person.xy, f.person.visibility > 0, scale, offset) for f in people]
    predicted = [_found_pose(f.row, scale, offset) for f in people if f.row]
    drawn = (draw_poses(pixels, poses, look, min_keypoint_score=_SHOWN_SCORE) for poses in (true, predicted))
    return Shown(path.name, tuple(f.oks for f in people), *(encode(canvas, "image/jpeg") for canvas in drawn))


def _around(people: Sequence[Found]) -> _Corners:
    boxes = np.array([f.person.box_xywh for f in people], np.float64)
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    margin = _MARGIN * (high - low).max()
    return np.concatenate([low - margin, high + margin])


def _crop(pixels: UInt8Array, corners: _Corners) -> tuple[UInt8Array, float, FloatArray]:
    """Return the part within the corners at the shown size, the scale, and the position (2,) of its corner."""
    size = np.array([pixels.shape[1], pixels.shape[0]] * 2)
    x0, y0, x1, y1 = np.clip(np.round(corners), 0, size).astype(int)
    part = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if not part.size:  # annotated outside
        part, x0, y0 = pixels, 0, 0
    scale = _SIDE / max(part.shape[:2])
    shape = tuple(max(1, round(side * scale)) for side in part.shape[1::-1])
    resized = cv2.resize(part, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8), scale, np.array([x0, y0], np.float32)


def _found_pose(row: Row, scale: float, offset: FloatArray) -> Pose:
    points: npt.NDArray[Any] = np.array(row["keypoints"], np.float32).reshape(-1, 3)
    return _pose(np.array(row["bbox"], np.float32), points[:, :2], points[:, 2], scale, offset)


def _pose(box: FloatArray, xy: FloatArray, scores: npt.NDArray[Any], scale: float, offset: FloatArray) -> Pose:
    moved = np.concatenate([box[:2] - offset, box[2:]]) * np.float32(scale)
    return Pose(moved, 1.0, Keypoints((xy - offset) * np.float32(scale), np.asarray(scores, np.float32)))
