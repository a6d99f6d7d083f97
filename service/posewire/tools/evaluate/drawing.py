"""Parts of images around people, and the people drawn on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from posewire.imaging.draw import draw_poses, encode
from posewire.pipeline.look import look_of
from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.evaluate.annotations import Person, Row
from posewire.types import SEEN_SCORE, FloatArray, Keypoints, Pose, UInt8Array

_MARGIN = 0.15  # around the people, in units of the longer side of their area


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of an image, scaled for a page."""

    pixels: UInt8Array  # (h, w, 3) uint8, RGB
    scale: float  # pixels of the part an image pixel
    offset: FloatArray  # (2,) float32: position of its corner, image pixels

    @classmethod
    def around(cls, pixels: UInt8Array, boxes_xywh: npt.ArrayLike, side: int) -> Self:
        """Cut the part around boxes, with a margin; the whole image, if they lie outside.

        Args:
            pixels: (H, W, 3) uint8, RGB: the image.
            boxes_xywh: (N, 4) x y w h, image pixels.
            side: pixels of the longer side of the part.
        """
        boxes = np.asarray(boxes_xywh, np.float64)
        low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
        margin = _MARGIN * (high - low).max()
        corners = np.concatenate([low - margin, high + margin])
        x0, y0, x1, y1 = np.clip(np.round(corners), 0, [pixels.shape[1], pixels.shape[0]] * 2).astype(int)
        part = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        if not part.size:  # annotated outside
            part, x0, y0 = pixels, 0, 0
        scale = side / max(part.shape[:2])
        shape = tuple(max(1, round(length * scale)) for length in part.shape[1::-1])
        resized = cv2.resize(part, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        return cls(np.asarray(resized, np.uint8), scale, np.array([x0, y0], np.float32))

    def annotated(self, person: Person) -> Pose:
        """Return an annotated person in pixels of the part; what is not annotated has a score of 0."""
        return self._pose(person.box_xywh, person.xy, np.asarray(person.visibility > 0, np.float32))

    def found(self, row: Row, person: Person | None = None) -> Pose:
        """Return a predicted person in pixels of the part.

        Args:
            row: the prediction.
            person: shows the keypoints that are annotated for this person, which are those that count; None: shows those that the
                service draws.
        """
        points = np.array(row["keypoints"], np.float32).reshape(-1, 3)
        scores = points[:, 2] if person is None else np.asarray(person.visibility > 0, np.float32)
        return self._pose(np.array(row["bbox"], np.float32), points[:, :2], scores)

    def draw(self, people: Sequence[Pose], keypoints: KeypointSet) -> bytes:
        """Return a JPEG of the part with people in its pixels."""
        return encode(draw_poses(self.pixels, people, look_of(keypoints), min_keypoint_score=SEEN_SCORE), "image/jpeg")

    def _pose(self, box: FloatArray, xy: FloatArray, scores: FloatArray) -> Pose:
        moved = np.concatenate([box[:2] - self.offset, box[2:]]) * np.float32(self.scale)
        return Pose(moved, 1.0, Keypoints((xy - self.offset) * np.float32(self.scale), scores))
