"""Pose networks, each fed as its authors document."""

from typing import Any, Final, Protocol

import cv2
import numpy as np

from loadtests.models import blazepose
from loadtests.models.crops import circle_affine, square_affine
from posewire.backends.preprocess import Preprocessor
from posewire.imaging.geometry import apply_affine, crop_affine, invert_affine
from posewire.pipeline.heads.heatmaps import decode_dark
from posewire.pipeline.pose_estimator import PADDING
from posewire.registry.specs import HeatmapOutput, PoseSpec
from posewire.types import FloatArray, Frame, Keypoints

MOVENET_SIDE: Final = 256  # pixels; Thunder
# Side of the square over the longer side of the box. BlazePose's is its authors'; MoveNet's crops come from its own keypoints of
# the last frame, so its margin is the one that suits it best on the data here, of 0.9 to 1.6.
MOVENET_MARGIN: Final = 1.0
BLAZEPOSE_MARGIN: Final = 1.25


class Network(Protocol):
    """The input and the output of a network; the run itself is an engine's."""

    def affine(self, box_xywh: FloatArray) -> FloatArray:
        """From pixels of the image to those of the input, (2, 3), for a person's box (4,)."""

    def tensor(self, frame: Frame, affine: FloatArray) -> Any:
        """The input: one cut-out."""

    def keypoints(self, outputs: Any) -> Keypoints:
        """COCO's 17, in pixels of the input."""


class LiteHrNet:
    """Ours, as the service runs it."""

    def __init__(self, spec: PoseSpec) -> None:
        if not isinstance(spec.output, HeatmapOutput):
            raise SystemExit(f"{spec.name} decodes its own heatmaps; choose a model that gives them")
        self._spec, self._output = spec, spec.output
        self._preprocessor = Preprocessor(spec.input)

    def affine(self, box_xywh: FloatArray) -> FloatArray:
        return crop_affine(box_xywh, self._spec.input.height, self._spec.input.width, PADDING)

    def tensor(self, frame: Frame, affine: FloatArray) -> Any:
        pixels = _cut(frame, affine, self._spec.input.width, self._spec.input.height)
        return self._preprocessor([pixels])

    def keypoints(self, outputs: Any) -> Keypoints:
        xy, scores = decode_dark(np.asarray(outputs[0], np.float32), blur_sigma=self._output.sigma)
        return Keypoints(xy[0] * np.float32(self._output.stride), scores[0])


class LiteHrNetPixels(LiteHrNet):
    """The same on Posewire's kernels, which normalise by themselves."""

    def tensor(self, frame: Frame, affine: FloatArray) -> Any:
        return _cut(frame, affine, self._spec.input.width, self._spec.input.height)[None]


class MoveNet:
    """MoveNet single pose: RGB 0..255 as int32; rows of y x score, 0..1."""

    def affine(self, box_xywh: FloatArray) -> FloatArray:
        return square_affine(box_xywh, MOVENET_SIDE, MOVENET_MARGIN)

    def tensor(self, frame: Frame, affine: FloatArray) -> Any:
        return _cut(frame, affine, MOVENET_SIDE, MOVENET_SIDE)[None].astype(np.int32)

    def keypoints(self, outputs: Any) -> Keypoints:
        rows = np.array(outputs[0], np.float32).reshape(17, 3)
        return Keypoints(rows[:, 1::-1] * np.float32(MOVENET_SIDE), rows[:, 2])


class BlazePose:
    """MediaPipe's landmark network: RGB 0..1; 33 landmarks, moved to where the heatmaps say."""

    def affine(self, box_xywh: FloatArray) -> FloatArray:
        return square_affine(box_xywh, blazepose.SIDE, BLAZEPOSE_MARGIN)

    def tensor(self, frame: Frame, affine: FloatArray) -> Any:
        return _cut(frame, affine, blazepose.SIDE, blazepose.SIDE)[None].astype(np.float32) / np.float32(255)

    def keypoints(self, outputs: Any) -> Keypoints:
        return blazepose.to_coco(self._landmarks(outputs))

    def next_affine(self, outputs: Any, affine: FloatArray) -> FloatArray:
        """The cut-out that MediaPipe takes of the next frame: around the circle that this run placed."""
        around = apply_affine(invert_affine(affine), self._landmarks(outputs).xy[[blazepose.CENTRE, blazepose.RIM]])
        return circle_affine(around[0], around[1], blazepose.SIDE, BLAZEPOSE_MARGIN)

    def _landmarks(self, outputs: Any) -> Keypoints:
        raw, heatmaps = outputs
        return blazepose.landmarks(np.asarray(raw[0], np.float32), np.asarray(heatmaps[0], np.float32))


def _cut(frame: Frame, affine: FloatArray, width: int, height: int) -> Any:
    """(height, width, 3) uint8, RGB; black outside the image."""
    return cv2.warpAffine(frame.pixels, affine, (width, height), flags=cv2.INTER_LINEAR)
