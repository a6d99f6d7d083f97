"""ShuffleNetV2 1x (Ma et al., ECCV 2018, arXiv 1807.11164) as a backbone, as it was and with conditional channel weighting.

Its last 1x1 convolution, to 1024 channels, and what classifies are left out.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.blocks import ConvNorm, ShuffleUnit, depthwise
from model_store.training.channel_weighting import ConditionalChannelWeighting, SingleBranch
from model_store.training.operators import join_shuffled
from model_store.training.pyramid import Pyramid

STEM = 24  # channels
STAGES = ((4, 116), (8, 232), (4, 464))  # units and channels


class ShuffleNetV2(Pyramid):
    """Maps of 24, 116, 232 and 464 channels.

    Args:
        weighted: units of stride 1 have conditional channel weighting for their two 1x1 convolutions, which makes them
            Lite-HRNet's block. Units of stride 2, the first of each stage, change the channels, which a weighting cannot:
            they stay.
    """

    channels = (STEM, *(channels for _, channels in STAGES))

    def __init__(self, *, weighted: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, STEM, 3, stride=2, activation=F.relu)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = []
        inputs = STEM
        for units, channels in STAGES:
            same = (_weighted(channels) if weighted else ShuffleUnit(channels) for _ in range(units - 1))
            stages.append(nn.Sequential(DownUnit(inputs, channels), *same))
            inputs = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        xs: list[Tensor] = [self.maxpool(self.conv1(image))]
        for stage in self.stages:
            xs.append(stage(xs[-1]))
        return xs


def _weighted(channels: int) -> nn.Module:
    return SingleBranch(ConditionalChannelWeighting([channels]))


class DownUnit(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H / 2, W / 2), half of the channels by each branch."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch1 = nn.Sequential(depthwise(inputs, 2), ConvNorm(inputs, half, activation=F.relu))
        self.branch2 = nn.Sequential(ConvNorm(inputs, half, activation=F.relu), depthwise(half, 2), ConvNorm(half, half, activation=F.relu))

    def forward(self, x: Tensor) -> Tensor:
        return join_shuffled(self.branch1(x), self.branch2(x))
