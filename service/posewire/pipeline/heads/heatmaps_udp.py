"""The pose head `heatmaps-udp`: heatmaps of networks trained with unbiased data processing (UDP, Huang et al., arXiv 1911.07524).

ViTPose has it, and some configurations of HRNet and Lite-HRNet. Sizes are distances between the middles of the outer pixels. So a pixel
of a heatmap is (input - 1) / (heatmap - 1) pixels of the input, and mirrored heatmaps lie on one another without a shift.
"""

import numpy as np

from posewire.config import Decoding
from posewire.errors import ConfigError
from posewire.pipeline.heads.base import PoseHead, register_pose_head
from posewire.pipeline.heads.heatmaps import decode_dark, flip_heatmaps
from posewire.registry.specs import PoseSpec, UdpHeatmapOutput
from posewire.types import FloatArray


@register_pose_head("heatmaps-udp", UdpHeatmapOutput)
class UdpHeatmapHead(PoseHead):
    """Heatmaps (N, K, height / stride, width / stride), 0..1, one for each keypoint.

    Raises:
        ConfigError: the quarter-pixel shift is asked for, which UDP does without.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:  # noqa: ARG002 - both tests read the same heatmaps
        assert isinstance(spec.output, UdpHeatmapOutput)
        if decoding is not Decoding.DARK:
            raise ConfigError(f"decoding {decoding} shifts peaks, but {spec.name} was trained with UDP, which has no shift: choose dark")
        described, stride = spec.input, spec.output.stride
        rows, cols = described.height // stride, described.width // stride
        self._sigma = spec.output.sigma
        self._flip_pairs = spec.keypoints.flip_pairs
        self._step = np.array([(described.width - 1) / max(cols - 1, 1), (described.height - 1) / max(rows - 1, 1)], np.float32)
        self.output_shape = (len(spec.keypoints.names), rows, cols)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, K, 2) in input pixels and scores (N, K) of heatmaps."""
        xy, scores = decode_dark(raw, self._sigma)
        return xy * self._step, scores

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Return the mean of the heatmaps and those of the mirrored crops."""
        return (raw + flip_heatmaps(mirrored, self._flip_pairs, 0)) * np.float32(0.5)
