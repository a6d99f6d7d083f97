"""The pose model: prepare, infer, finish."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from posewire.config import Decoding
from posewire.inference.session import OnnxSession
from posewire.kernels.session import KernelSession
from posewire.models.specs import PoseSpec
from posewire.types import Crop, FloatArray, Frame, Keypoints, Pose, UInt8Array
from posewire.vision.geometry import apply_affine, cut_crops
from posewire.vision.keypoints import Decode, decode_dark, decode_quarter, flip_heatmaps
from posewire.vision.tensor import network_input

# A person's box is shown with a quarter more around it, as in the original's training and evaluation.
PADDING = 1.25

# Keypoints below this say nothing of the person: COCO's evaluation of the original leaves them out of the score.
_COUNTED_SCORE = 0.2


class PoseEstimator:
    """Places keypoints. `prepare` and `finish` are for one picture, `infer` for a batch; all are safe on any thread."""

    def __init__(
        self, spec: PoseSpec, session: OnnxSession | KernelSession, *, decoding: Decoding = Decoding.DARK, flip_test: bool = False
    ) -> None:
        self.spec = spec
        self.session = session
        self._flip_test = flip_test
        self._mean = np.array(spec.input.mean, np.float32)
        self._std = np.array(spec.input.std, np.float32)
        # DARK smooths with the Gaussian that the targets were drawn with.
        self._decode: Decode = decode_quarter if decoding is Decoding.QUARTER else partial(decode_dark, blur_sigma=spec.output.sigma)

    def prepare(self, frame: Frame, boxes_xywh: FloatArray) -> list[Crop]:
        """Cut the people out: boxes (N, 4) float32 in pixels of the upright picture."""
        return cut_crops(frame, boxes_xywh, self.spec.input.height, self.spec.input.width, PADDING)

    def infer(self, batch: Sequence[UInt8Array]) -> list[Keypoints]:
        """Crops (h, w, 3) uint8 RGB to keypoints in crop pixels, one a crop."""
        heatmaps = self._heatmaps(batch)
        if self._flip_test:
            mirrored = self._heatmaps([crop[:, ::-1] for crop in batch])
            heatmaps = (heatmaps + flip_heatmaps(mirrored, self.spec.keypoints.flip_pairs, self.spec.output.flip_shift)) * np.float32(0.5)
        xy, scores = self._decode(heatmaps)
        return [Keypoints(points * np.float32(self.spec.output.stride), s) for points, s in zip(xy, scores, strict=True)]

    def _heatmaps(self, batch: Sequence[UInt8Array]) -> FloatArray:
        if isinstance(self.session, KernelSession):
            return self.session.run(batch)
        return self.session.run(network_input(batch, self.spec.input.colour, self._mean, self._std))

    def finish(self, box_xywh: FloatArray, box_score: float, crop: Crop, found: Keypoints) -> Pose:
        """Keypoints in crop pixels to a person in pixels of the upright picture."""
        keypoints = Keypoints(apply_affine(crop.to_picture, found.xy), found.scores)
        counted = found.scores[found.scores > _COUNTED_SCORE]
        score = box_score * float(counted.mean()) if len(counted) else 0.0
        return Pose(box_xywh, score, keypoints)
