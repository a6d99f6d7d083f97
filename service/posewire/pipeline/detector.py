"""The person detector: prepare, infer, finish."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.preprocess import ModelFeed
from posewire.imaging.geometry import clip_boxes, letterbox, non_maximum_suppression
from posewire.registry.specs import DetectorSpec
from posewire.types import Detections, FloatArray, Frame, UInt8Array

# Suppression compares pairs: a noisy picture at a low threshold must not make it slow.
_MOST_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Letterboxed:
    """A picture as the detector takes it."""

    pixels: UInt8Array  # (h, w, 3) uint8, RGB, at the detector's input size
    scale: float  # letterbox pixels a picture pixel


def boxes_scores_layout(raw: FloatArray, _: DetectorSpec) -> tuple[FloatArray, FloatArray]:
    """Our detector's layout: rows of x0 y0 x1 y1 (letterbox pixels) and a score.

    Args:
        raw: (A, 5) float32.

    Returns:
        Corners (A, 4) in letterbox pixels and scores (A,).
    """
    return raw[:, :4], raw[:, 4]


def yolox_layout(raw: FloatArray, spec: DetectorSpec) -> tuple[FloatArray, FloatArray]:
    """YOLOX's raw layout (arXiv 2107.08430): one row an anchor point, stride by stride.

    A row is the centre's offset from its grid cell and the logarithm of width and height, in strides, then
    objectness and class scores.

    Args:
        raw: (A, 5 + classes) float32.
        spec: gives the input size, the strides and the class that means a person.

    Returns:
        Corners (A, 4) in letterbox pixels and scores (A,).
    """
    grids, strides = [], []
    for stride in spec.output.strides:
        rows, cols = spec.input.height // stride, spec.input.width // stride
        ys, xs = np.mgrid[:rows, :cols]
        grids.append(np.stack([xs, ys], -1).reshape(-1, 2))
        strides.append(np.full((rows * cols, 1), stride))
    grid, stride_of = np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)
    centre = (raw[:, :2] + grid) * stride_of
    half = np.exp(raw[:, 2:4]) * stride_of / 2
    return np.concatenate([centre - half, centre + half], 1), raw[:, 4] * raw[:, 5 + spec.output.person_class]


LAYOUTS: dict[str, Callable[[FloatArray, DetectorSpec], tuple[FloatArray, FloatArray]]] = {
    "boxes_scores": boxes_scores_layout,
    "yolox": yolox_layout,
    "end2end": boxes_scores_layout,
}


class Detector:
    """Finds people. `prepare` and `finish` are for one picture, `infer` for a batch; all are safe on any thread."""

    def __init__(self, spec: DetectorSpec, session: OnnxSession) -> None:
        self.spec = spec
        self.session = session
        self._layout = LAYOUTS[spec.output.layout]
        self._curve = spec.output.calibration.curve if spec.output.calibration else None
        self._input = ModelFeed(spec.input)

    def prepare(self, frame: Frame) -> Letterboxed:
        """Scale the picture into the model's input."""
        return Letterboxed(*letterbox(frame.pixels, self.spec.input.height, self.spec.input.width, self.spec.pad_value))

    def infer(self, batch: Sequence[UInt8Array], *, alone: bool = False) -> list[FloatArray]:
        """Letterboxed pictures (h, w, 3) uint8 RGB to the model's raw rows (A, columns), one array a picture.

        `alone` is as `OnnxSession.run`'s.
        """
        tensor = self._input(batch)
        if self.spec.output.layout == "end2end":  # every picture has its own number of rows
            return [self.session.run(tensor[i : i + 1], alone=alone)[0] for i in range(len(tensor))]
        return list(self.session.run(tensor, alone=alone))

    def finish(self, raw: FloatArray, scale: float, frame: Frame, min_score: float, most: int) -> Detections:
        """The best `most` people of at least `min_score`, after suppression, in pixels of the upright picture."""
        boxes, scores = self._layout(raw, self.spec)
        curve = self._curve
        # What is calibrated are the few candidates, not all cells.
        candidates = np.flatnonzero(scores >= (min_score if curve is None else curve.raw(min_score)))
        if len(candidates) > _MOST_CANDIDATES:
            candidates = candidates[np.argsort(-scores[candidates], kind="stable")[:_MOST_CANDIDATES]]
        boxes, scores = clip_boxes(boxes[candidates] / np.float32(scale), frame.width, frame.height), scores[candidates]
        if curve is not None:
            scores = curve(scores)
        solid = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(1))  # a box that lies outside is clipped to nothing
        kept = solid[non_maximum_suppression(boxes[solid], scores[solid], self.spec.nms_iou)][:most]
        return Detections(boxes[kept], scores[kept])
