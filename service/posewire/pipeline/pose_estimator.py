"""The pose model: crop, infer, postprocess."""

from collections.abc import Sequence

from posewire.backends.base import InferenceSession, fits
from posewire.backends.preprocess import Preprocessor
from posewire.config import Decoding
from posewire.errors import ModelError
from posewire.imaging.geometry import apply_affine, cut_crops
from posewire.pipeline.heads.base import pose_head
from posewire.registry.specs import PoseSpec, WeightsFile
from posewire.types import SEEN_SCORE, Crop, FloatArray, Frame, Keypoints, Pose, UInt8Array

# A crop shows a quarter more than the person's box, as in the original's training and evaluation.
PADDING = 1.25


class PoseEstimator:
    """Estimates keypoints. `crop` and `postprocess` take one image, `infer` takes a batch; all may be called from any thread.

    Args:
        spec: of the model.
        session: runs it.
        weights: the file that the session's weights are from; None: the model's own.
        decoding: of heatmaps.
        flip_test: average the output of each crop with that of the mirrored crop.

    Raises:
        ConfigError: the model's head cannot do the decoding or the flip test.
        ModelError: the network's output is not what the manifest says.
    """

    def __init__(
        self,
        spec: PoseSpec,
        session: InferenceSession,
        weights: WeightsFile | None = None,
        *,
        decoding: Decoding = Decoding.DARK,
        flip_test: bool = False,
    ) -> None:
        self.spec = spec
        self.session = session
        self.weights = weights or spec
        self._preprocessor = Preprocessor(spec.input, session.input_format)
        self._curve = spec.output.calibration.curve if spec.output.calibration else None
        self._flip_test = flip_test
        self._head = pose_head(spec, decoding, flip_test=flip_test)
        if not fits(session.output_shape, self._head.output_shape):
            raise ModelError(
                f"{spec.name}: by the manifest an output is {self._head.output_shape} ({spec.output.layout}); "
                f"the file gives {session.output_shape}"
            )

    def crop(self, frame: Frame, boxes_xywh: FloatArray) -> list[Crop]:
        """Cut people out of an image: boxes (N, 4) float32 x y w h in pixels of the upright image."""
        described = self.spec.input
        return cut_crops(frame, boxes_xywh, described.height, described.width, PADDING, unbiased=self.spec.output.unbiased)

    def infer(self, batch: Sequence[UInt8Array]) -> list[Keypoints]:
        """Return the keypoints of crops (h, w, 3) uint8 RGB, in crop pixels, one a crop."""
        inputs = self._preprocessor(batch)
        raw = self.session.run(inputs)
        if self._flip_test:
            raw = self._head.merge_mirrored(raw, self.session.run(self._preprocessor.mirror(inputs)))
        xy, scores = self._head.decode(raw)
        if self._curve is not None:
            scores = self._curve(scores)
        return [Keypoints(points, s) for points, s in zip(xy, scores, strict=True)]

    def postprocess(self, box_xywh: FloatArray, box_score: float, crop: Crop, found: Keypoints) -> Pose:
        """Return a person in pixels of the upright image, from keypoints in crop pixels."""
        keypoints = Keypoints(apply_affine(crop.to_image, found.xy), found.scores)
        counted = found.scores[found.scores > SEEN_SCORE]
        score = box_score * float(counted.mean()) if len(counted) else 0.0
        return Pose(box_xywh, score, keypoints)
