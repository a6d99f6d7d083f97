"""Conditional channel weighting: what Lite-HRNet has in place of 1x1 convolutions, as a part for any network.

Yu et al., CVPR 2021, arXiv 2104.06403, section 3.2. A 1x1 convolution mixes channels by a matrix of C x C at every pixel.
Here a channel is multiplied by a weight that depends on all channels, which costs less: across resolutions, by a weight for
every place of the coarsest branch; spatially, by one weight for the whole map.

`xs` is a list of the maps of one or more branches, finest first: branch b is (N, C_b, H / 2**b, W / 2**b), and the sides of the
finest are multiples of 2**(branches - 1). Every module but `SpatialWeighting` takes `xs` and returns maps of the same shapes. A
network of one resolution gives a list of one map: then nothing is pooled, and the weight of a value depends on all channels
at its own place. docs/conditional-channel-weighting.md has examples.

Names of modules are those of the authors' checkpoints.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.blocks import ConvNorm, depthwise
from model_store.training.operators import join_shuffled, split, weigh

CROSS_REDUCTION = 8  # the authors' of Lite-HRNet
SPATIAL_REDUCTION = 4  # likewise


class CrossResolutionWeighting(nn.Module):
    """`xs` to `xs`, each value weighted by what all branches hold around it, at the coarsest size.

    All branches are averaged to the size of the coarsest and joined; two 1x1 convolutions with batch norms, by way of
    sum(channels) // reduction hidden channels, give a weight 0..1 for each channel of each branch, which the finer branches
    repeat.
    """

    def __init__(self, channels: Sequence[int], reduction: int = CROSS_REDUCTION) -> None:
        super().__init__()
        self.channels = list(channels)
        total = sum(channels)
        hidden = _hidden(total, reduction)
        self.conv1 = ConvNorm(total, hidden, activation=F.relu)
        self.conv2 = ConvNorm(hidden, total, activation=torch.sigmoid)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        # Windows of a fixed size: adaptive pooling is the same for multiples of 32, and has no ONNX operator.
        factors = [2**halvings for halvings in reversed(range(len(xs)))]
        pooled = torch.cat([F.avg_pool2d(x, factor) if factor > 1 else x for x, factor in zip(xs, factors, strict=True)], 1)
        weights = self.conv2(self.conv1(pooled)).split(self.channels, 1)
        return list(map(weigh, xs, weights))


class SpatialWeighting(nn.Module):
    """(N, C, H, W) to the same, each channel weighted 0..1 by what the means of all hold; C // reduction are hidden."""

    def __init__(self, channels: int, reduction: int = SPATIAL_REDUCTION) -> None:
        super().__init__()
        hidden = _hidden(channels, reduction)
        self.conv1 = ConvNorm(channels, hidden, bias=True, activation=F.relu)
        self.conv2 = ConvNorm(hidden, channels, bias=True, activation=torch.sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        return weigh(x, self.conv2(self.conv1(x.mean((2, 3), keepdim=True))))


class WeightedDepthwise(nn.Module):
    """`xs` to `xs`: across resolutions, depthwise 3x3 with a batch norm, spatially.

    It stands where a network has a 1x1 convolution, a depthwise 3x3 and a 1x1 convolution that keep the channels.

    Args:
        channels: of the branches, finest first.
        cross_reduction: channels of all branches to one hidden channel of the weighting across resolutions.
        spatial_reduction: channels of a branch to one hidden channel of its spatial weighting.

    Raises:
        ValueError: a reduction leaves no hidden channel.
    """

    def __init__(self, channels: Sequence[int], cross_reduction: int = CROSS_REDUCTION, spatial_reduction: int = SPATIAL_REDUCTION) -> None:
        super().__init__()
        self.cross_resolution_weighting = CrossResolutionWeighting(channels, cross_reduction)
        self.depthwise_convs = nn.ModuleList(depthwise(c) for c in channels)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c, spatial_reduction) for c in channels)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        ys = self.cross_resolution_weighting(xs)
        return [weigh(conv(y)) for y, conv, weigh in zip(ys, self.depthwise_convs, self.spatial_weighting, strict=True)]


class ConditionalChannelWeighting(WeightedDepthwise):
    """The block of Lite-HRNet, `xs` to `xs`: ShuffleNetV2's block of stride 1 with weightings for its 1x1 convolutions.

    Each branch keeps the first half of its channels and works on the other as `WeightedDepthwise` does; both are shuffled.

    Args:
        channels: of the branches, finest first; even.
        cross_reduction: halves of the channels of all branches to one hidden channel.
        spatial_reduction: half of the channels of a branch to one hidden channel.

    Raises:
        ValueError: channels are odd, or a reduction leaves no hidden channel.
    """

    def __init__(self, channels: Sequence[int], cross_reduction: int = CROSS_REDUCTION, spatial_reduction: int = SPATIAL_REDUCTION) -> None:
        if any(c % 2 for c in channels):
            raise ValueError(f"conditional channel weighting halves the channels of every branch: {list(channels)} must be even")
        super().__init__([c // 2 for c in channels], cross_reduction, spatial_reduction)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        kept, worked = zip(*map(split, xs), strict=True)
        return [join_shuffled(a, b) for a, b in zip(kept, super().forward(list(worked)), strict=True)]


class SingleBranch(nn.Module):
    """(N, C, H, W) to the same: a module of `xs` in a network of one resolution."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        [y] = self.module([x])
        result: Tensor = y
        return result


def _hidden(channels: int, reduction: int) -> int:
    if channels < reduction:
        raise ValueError(f"{channels} channels cannot be reduced by {reduction}: nothing is left")
    return channels // reduction
