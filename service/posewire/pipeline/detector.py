"""The person detector: preprocess, infer, postprocess."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posewire.backends.base import InferenceSession
from posewire.backends.preprocess import Preprocessor
from posewire.imaging.geometry import clip_boxes, letterbox, non_maximum_suppression
from posewire.pipeline.heads.base import detector_head
from posewire.registry.specs import DetectorSpec
from posewire.types import Detections, FloatArray, Frame, UInt8Array

# Suppression compares pairs: a noisy image at a low threshold must not make it slow.
_MAX_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Letterboxed:
    """An image at the detector's input size."""

    pixels: UInt8Array  # (h, w, 3) uint8, RGB
    scale: float  # letterbox pixels an image pixel


class Detector:
    """Finds people. `preprocess` and `postprocess` take one image, `infer` takes a batch; all may be called from any thread."""

    def __init__(self, spec: DetectorSpec, session: InferenceSession) -> None:
        self.spec = spec
        self.session = session
        self._head = detector_head(spec)
        self._curve = spec.output.calibration.curve if spec.output.calibration else None
        self._preprocessor = Preprocessor(spec.input, session.input_format)

    def preprocess(self, frame: Frame) -> Letterboxed:
        """Scale the image to the model's input size."""
        return Letterboxed(*letterbox(frame.pixels, self.spec.input.height, self.spec.input.width, self.spec.pad_value))

    def infer(self, batch: Sequence[UInt8Array], *, exclusive: bool = False) -> list[FloatArray]:
        """Run the model.

        Args:
            batch: letterboxed images (h, w, 3) uint8 RGB.
            exclusive: as in `InferenceSession.run`.

        Returns:
            The model's raw rows (A, columns) float32, one array an image.
        """
        inputs = self._preprocessor(batch)
        if self._head.one_by_one:
            return [self.session.run(inputs[i : i + 1], exclusive=exclusive)[0] for i in range(len(inputs))]
        return list(self.session.run(inputs, exclusive=exclusive))

    def postprocess(self, raw: FloatArray, scale: float, frame: Frame, min_score: float, max_people: int) -> Detections:
        """Return the best people of at least `min_score`, after suppression.

        Args:
            raw: of `infer`, for this image.
            scale: of `preprocess`.
            frame: the image.
            min_score: 0..1.
            max_people: how many people at most.

        Returns:
            Boxes in pixels of the upright image, best first.
        """
        boxes, scores = self._head.decode(raw)
        curve = self._curve
        # Only the few candidates are calibrated, not all rows.
        candidates = np.flatnonzero(scores >= (min_score if curve is None else curve.raw(min_score)))
        if len(candidates) > _MAX_CANDIDATES:
            candidates = candidates[np.argsort(-scores[candidates], kind="stable")[:_MAX_CANDIDATES]]
        boxes, scores = clip_boxes(boxes[candidates] / np.float32(scale), frame.width, frame.height), scores[candidates]
        if curve is not None:
            scores = curve(scores)
        solid = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= 1).all(1))  # a box outside the image is clipped to nothing
        kept = solid[non_maximum_suppression(boxes[solid], scores[solid], self.spec.nms_iou)][:max_people]
        return Detections(boxes[kept], scores[kept])
