"""The pose head `keypoints`: the network's graph has decoded its heatmaps itself."""

from typing import Annotated, Literal

from pydantic import Field

from posewire.config import Decoding
from posewire.errors import ConfigError
from posewire.pipeline.heads.base import PoseHead, refuse_other_decoding, register_pose_head
from posewire.registry.specs import Output, PoseSpec, Positive, Text
from posewire.types import FloatArray


class KeypointOutput(Output):
    """(batch, K, 3) float32: x y in input pixels and a score 0..1, decoded in the graph. Two outputs may be x y and the scores."""

    layout: Literal["keypoints"]
    outputs: Annotated[tuple[Text, ...], Field(max_length=2)] = ()
    sigma: Positive | None = None  # heatmap pixels: of the Gaussian that the graph smooths with; None: it decodes in another way


@register_pose_head("keypoints", KeypointOutput)
class KeypointHead(PoseHead):
    """Keypoints (N, K, 3): x y in input pixels and a score 0..1; or joined outputs, x y (N, K, 2) and scores (N, K).

    Raises:
        ConfigError: a flip test, or another decoding than that of the graph, is asked for.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:
        rest = f"but {spec.name} decodes its own in its graph and gives keypoints only: choose a model of heatmaps"
        if flip_test:
            raise ConfigError(f"a flip test averages heatmaps, {rest}")
        refuse_other_decoding(decoding, f"needs heatmaps, {rest}")
        self._count = len(spec.keypoints.names)
        self._joined = len(spec.output.outputs) > 1
        self.output_shape = (3 * self._count,) if self._joined else (self._count, 3)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the keypoints (N, K, 2) and their scores (N, K)."""
        if self._joined:
            return raw[:, : 2 * self._count].reshape(-1, self._count, 2), raw[:, 2 * self._count :]
        return raw[..., :2], raw[..., 2]

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Raise: this head refuses the flip test when it is built."""
        raise NotImplementedError
