"""The pose head `keypoints`: the network's graph has decoded its heatmaps itself."""

from posewire.config import Decoding
from posewire.errors import ConfigError
from posewire.pipeline.heads.base import PoseHead, register_pose_head
from posewire.registry.specs import KeypointOutput, PoseSpec
from posewire.types import FloatArray


@register_pose_head("keypoints", KeypointOutput)
class KeypointHead(PoseHead):
    """Keypoints (N, K, 3): x y in input pixels and a score 0..1.

    Raises:
        ConfigError: a flip test, or another decoding than that of the graph, is asked for.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:
        rest = f"but {spec.name} decodes its own, by DARK, and gives keypoints only: choose a model of heatmaps"
        if flip_test:
            raise ConfigError(f"a flip test averages heatmaps, {rest}")
        if decoding is not Decoding.DARK:
            raise ConfigError(f"decoding {decoding} needs heatmaps, {rest}")
        self.output_shape = (len(spec.keypoints.names), 3)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the keypoints (N, K, 2) and their scores (N, K)."""
        return raw[..., :2], raw[..., 2]

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Raise: this head refuses the flip test when it is built."""
        raise NotImplementedError
