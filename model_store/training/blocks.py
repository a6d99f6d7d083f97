"""The parts that Lite-HRNet's networks are made of, with the names of the authors' checkpoints; shapes as in `networks`."""

# A module's docstring tells of its forward.
# ruff: noqa: D102

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

Activation: TypeAlias = Callable[[Tensor], Tensor]


class ConvNorm(nn.Module):
    """Convolution, then batch norm unless the convolution has a bias, then an activation if there is one."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if not bias:
            self.bn = nn.BatchNorm2d(outputs)
        self.bias = bias
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) if self.bias else self.bn(self.conv(x))
        return y if self.activation is None else self.activation(y)


def depthwise(channels: int, stride: int = 1) -> ConvNorm:
    """3x3, each channel by itself, without an activation."""
    return ConvNorm(channels, channels, 3, stride=stride, groups=channels)


def separable(inputs: int, outputs: int, stride: int, *, relu: bool) -> nn.Sequential:
    """Depthwise 3x3, then 1x1, numbered as the authors number them in transitions and fuse layers."""
    spatial = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    layers = [spatial, nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def join_shuffled(a: Tensor, b: Tensor) -> Tensor:
    """ShuffleNet's shuffle of two groups: (N, C, H, W) twice to (N, 2C, H, W) with channels a0 b0 a1 b1 …"""
    return torch.stack([a, b], 2).flatten(1, 2)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1 with a rectifier."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise_conv = depthwise(inputs)
        self.pointwise_conv = ConvNorm(inputs, outputs, activation=F.relu)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class CrossResolutionWeighting(nn.Module):
    """`xs` to `xs` of the same shapes, each value weighted by what all branches hold around it, at the coarsest size."""

    def __init__(self, channels: Sequence[int], reduction: int) -> None:
        super().__init__()
        self.channels = list(channels)
        total = sum(channels)
        self.conv1 = ConvNorm(total, total // reduction, activation=F.relu)
        self.conv2 = ConvNorm(total // reduction, total, activation=torch.sigmoid)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        # Windows of a fixed size: adaptive pooling is the same for multiples of 32, and has no ONNX operator.
        factors = [2**halvings for halvings in reversed(range(len(xs)))]
        pooled = torch.cat([F.avg_pool2d(x, factor) for x, factor in zip(xs, factors, strict=True)], 1)
        weights = self.conv2(self.conv1(pooled)).split(self.channels, 1)
        return [x * F.interpolate(w, scale_factor=factor, mode="nearest") for x, w, factor in zip(xs, weights, factors, strict=True)]


class SpatialWeighting(nn.Module):
    """(N, C, H, W) to the same, each channel weighted by what the means of all hold."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels // reduction, bias=True, activation=F.relu)
        self.conv2 = ConvNorm(channels // reduction, channels, bias=True, activation=torch.sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))
        return weighted


class ConditionalChannelWeighting(nn.Module):
    """The block of Lite-HRNet: `xs` to `xs` of the same shapes, all branches together."""

    def __init__(self, channels: Sequence[int], cross_reduction: int, spatial_reduction: int) -> None:
        super().__init__()
        halves = [c // 2 for c in channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves, cross_reduction)
        self.depthwise_convs = nn.ModuleList(depthwise(c) for c in halves)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c, spatial_reduction) for c in halves)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        kept, worked = zip(*(x.chunk(2, 1) for x in xs), strict=True)
        weighted = self.cross_resolution_weighting(list(worked))
        ys = [weigh(conv(y)) for y, conv, weigh in zip(weighted, self.depthwise_convs, self.spatial_weighting, strict=True)]
        return [join_shuffled(a, b) for a, b in zip(kept, ys, strict=True)]


class ShuffleUnit(nn.Module):
    """The block of the naive variants, ShuffleNetV2's of stride 1: (N, C, H, W) to the same, one branch by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(ConvNorm(half, half, activation=F.relu), depthwise(half), ConvNorm(half, half, activation=F.relu))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return join_shuffled(a, self.branch2(b))
