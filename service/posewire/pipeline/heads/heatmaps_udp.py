"""The pose head `heatmaps-udp`: heatmaps of networks trained with unbiased data processing (UDP, Huang et al., arXiv 1911.07524).

ViTPose has it, and some configurations of HRNet and Lite-HRNet. Sizes are distances between the middles of the outer pixels. So a pixel
of a heatmap is (input - 1) / (heatmap - 1) pixels of the input, and mirrored heatmaps lie on one another without a shift.
"""

from functools import partial
from typing import Literal

import numpy as np

from posewire.config import Decoding
from posewire.pipeline.heads.base import refuse_other_decoding, register_pose_head
from posewire.pipeline.heads.heatmaps import HeatmapsHead, decode_dark
from posewire.registry.specs import Count, Output, PoseSpec, Positive


class UdpHeatmapOutput(Output):
    """(batch, K, height / stride, width / stride) float32 heatmaps, 0..1, of a network trained with UDP (arXiv 1911.07524)."""

    layout: Literal["heatmaps-udp"]
    stride: Count  # input pixels a heatmap pixel, by which height and width are divided
    sigma: Positive  # heatmap pixels: of the Gaussians that the training targets were drawn with

    @property
    def unbiased(self) -> bool:
        """True."""
        return True


@register_pose_head("heatmaps-udp", UdpHeatmapOutput)
class UdpHeatmapHead(HeatmapsHead):
    """Heatmaps (N, K, height / stride, width / stride), 0..1, one for each keypoint.

    The middles of the outer pixels of a heatmap lie at those of the input.

    Raises:
        ConfigError: the quarter-pixel shift is asked for, which UDP does without.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:  # noqa: ARG002 - the flip test changes no shape
        assert isinstance(spec.output, UdpHeatmapOutput)
        refuse_other_decoding(decoding, f"shifts peaks, but {spec.name} was trained with UDP, which has no shift: choose dark")
        described, stride = spec.input, spec.output.stride
        rows, cols = described.height // stride, described.width // stride
        step = np.array([(described.width - 1) / max(cols - 1, 1), (described.height - 1) / max(rows - 1, 1)], np.float32)
        super().__init__(spec, stride, 0, partial(decode_dark, blur_sigma=spec.output.sigma), step)
