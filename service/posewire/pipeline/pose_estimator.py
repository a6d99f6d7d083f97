"""The pose model: prepare, infer, finish."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from posewire.backends.cpu_kernels.session import KernelSession
from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.preprocess import ModelFeed, for_kernels
from posewire.config import Decoding
from posewire.errors import ConfigError
from posewire.imaging.geometry import apply_affine, cut_crops
from posewire.pipeline.heads.heatmap_decoding import Decode, decode_dark, decode_quarter, flip_heatmaps
from posewire.registry.specs import HeatmapOutput, PoseSpec, WeightsFile
from posewire.types import Crop, FloatArray, Frame, Keypoints, Pose, UInt8Array

# A person's box is shown with a quarter more around it, as in the original's training and evaluation.
PADDING = 1.25

# Keypoints below this say nothing of the person: COCO's evaluation of the original leaves them out of the score.
_COUNTED_SCORE = 0.2


class PoseEstimator:
    """Places keypoints. `prepare` and `finish` are for one picture, `infer` for a batch; all are safe on any thread.

    Raises:
        ConfigError: the model decodes its heatmaps itself, and a flip test or another decoding is asked for.
    """

    def __init__(
        self, spec: PoseSpec, session: OnnxSession | KernelSession, *, decoding: Decoding = Decoding.DARK, flip_test: bool = False
    ) -> None:
        self.spec = spec
        self.session = session
        on_kernels = isinstance(session, KernelSession)
        self.weights: WeightsFile = (spec.kernels if on_kernels else None) or spec
        self._input = ModelFeed(for_kernels(spec.input) if on_kernels else spec.input)
        self._curve = spec.output.calibration.curve if spec.output.calibration else None
        self._keypoints_of: Callable[[FloatArray | UInt8Array], tuple[FloatArray, FloatArray]]
        if isinstance(spec.output, HeatmapOutput):
            self._keypoints_of = partial(self._decoded, spec.output, decoder(decoding, spec.output.sigma), flip_test)
            return
        _refuse(spec.name, decoding, flip_test)
        self._keypoints_of = self._given

    def prepare(self, frame: Frame, boxes_xywh: FloatArray) -> list[Crop]:
        """Cut the people out: boxes (N, 4) float32 in pixels of the upright picture."""
        return cut_crops(frame, boxes_xywh, self.spec.input.height, self.spec.input.width, PADDING)

    def infer(self, batch: Sequence[UInt8Array]) -> list[Keypoints]:
        """Crops (h, w, 3) uint8 RGB to keypoints in crop pixels, one a crop."""
        xy, scores = self._keypoints_of(self._input(batch))
        if self._curve is not None:
            scores = self._curve(scores)
        return [Keypoints(points, s) for points, s in zip(xy, scores, strict=True)]

    def _decoded(
        self, output: HeatmapOutput, decode: Decode, flip_test: bool, crops: FloatArray | UInt8Array
    ) -> tuple[FloatArray, FloatArray]:
        heatmaps = self.session.run(crops)
        if flip_test:
            mirrored = self.session.run(self._input.mirrored(crops))
            heatmaps = (heatmaps + flip_heatmaps(mirrored, self.spec.keypoints.flip_pairs, output.flip_shift)) * np.float32(0.5)
        xy, scores = decode(heatmaps)
        return xy * np.float32(output.stride), scores

    def _given(self, crops: FloatArray | UInt8Array) -> tuple[FloatArray, FloatArray]:
        keypoints = self.session.run(crops)
        return keypoints[..., :2], keypoints[..., 2]

    def finish(self, box_xywh: FloatArray, box_score: float, crop: Crop, found: Keypoints) -> Pose:
        """Keypoints in crop pixels to a person in pixels of the upright picture."""
        keypoints = Keypoints(apply_affine(crop.to_picture, found.xy), found.scores)
        counted = found.scores[found.scores > _COUNTED_SCORE]
        score = box_score * float(counted.mean()) if len(counted) else 0.0
        return Pose(box_xywh, score, keypoints)


def decoder(decoding: Decoding, sigma: float) -> Decode:
    """What finds the places in heatmaps; DARK smooths with the Gaussian that the targets were drawn with."""
    return decode_quarter if decoding is Decoding.QUARTER else partial(decode_dark, blur_sigma=sigma)


def _refuse(name: str, decoding: Decoding, flip_test: bool) -> None:
    for wanted, what in (
        (flip_test, "a flip test averages heatmaps"),
        (decoding is not Decoding.DARK, f"decoding {decoding} needs heatmaps"),
    ):
        if wanted:
            raise ConfigError(f"{what}, but {name} decodes its own, by DARK, and gives keypoints only: choose a model of heatmaps")
