"""MobileNetV2 1x (Sandler et al., CVPR 2018, arXiv 1801.04381) as a backbone, as it was and with conditional channel weighting.

Its last 1x1 convolution, to 1280 channels, and what classifies are left out.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.blocks import ConvNorm
from model_store.training.channel_weighting import SingleBranch, WeightedDepthwise
from model_store.training.pyramid import Pyramid

STEM = 32  # channels
# Expansion, channels, blocks and stride of the first block; a group a map: its last block's output is the map.
GROUPS = (
    ((1, 16, 1, 1), (6, 24, 2, 2)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


class MobileNetV2(Pyramid):
    """Maps of 24, 32, 96 and 320 channels.

    Args:
        weighted: blocks that keep size and channels have conditional channel weighting for their two 1x1 convolutions. As a
            weighting cannot expand channels, the depthwise convolution between works on the block's own, without the
            expansion by 6. Blocks that change size or channels stay.
    """

    channels = tuple(group[-1][1] for group in GROUPS)

    def __init__(self, *, weighted: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, STEM, 3, stride=2, activation=F.relu6)
        stages = []
        inputs = STEM
        for group in GROUPS:
            blocks: list[nn.Module] = []
            for expansion, channels, count, stride in group:
                blocks.append(InvertedResidual(inputs, channels, stride, expansion))
                blocks.extend(
                    WeightedResidual(channels) if weighted else InvertedResidual(channels, channels, 1, expansion) for _ in range(count - 1)
                )
                inputs = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.conv1(image)
        xs: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            xs.append(x)
        return xs


class InvertedResidual(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H / stride, W / stride); what keeps the shape is added to its input."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        expand = [ConvNorm(inputs, middle, activation=F.relu6)] if expansion > 1 else []
        spatial = ConvNorm(middle, middle, 3, stride=stride, groups=middle, activation=F.relu6)
        self.conv = nn.Sequential(*expand, spatial, ConvNorm(middle, outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class WeightedResidual(nn.Module):
    """(N, C, H, W) to the same: a weighted depthwise convolution, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SingleBranch(WeightedDepthwise([channels]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x)
        return y
