"""The parts that several networks are made of, with the names of Lite-HRNet's checkpoints.

`xs` is a list of the maps of branches, finest first, each (N, C, H, W) with half the height and width of the one before.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.operators import Conv2d, join_shuffled, split

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
        self.conv = Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
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
    spatial = Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    layers = [spatial, nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1 with a rectifier."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise_conv = depthwise(inputs)
        self.pointwise_conv = ConvNorm(inputs, outputs, activation=F.relu)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class ShuffleUnit(nn.Module):
    """The block of the naive variants, ShuffleNetV2's of stride 1: (N, C, H, W) to the same, one branch by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(ConvNorm(half, half, activation=F.relu), depthwise(half), ConvNorm(half, half, activation=F.relu))

    def forward(self, x: Tensor) -> Tensor:
        a, b = split(x)
        return join_shuffled(a, self.branch2(b))


class IterativeHead(nn.Module):
    """Lite-HRNet's head, from the coarsest branch up: `xs` to (N, C_0, H, W), the shape of the finest."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        coarsest_first = channels[::-1]
        self.projects = nn.ModuleList(map(SeparableConv, coarsest_first, [*coarsest_first[1:], coarsest_first[-1]]))

    def forward(self, xs: list[Tensor]) -> Tensor:
        coarsest, *finer = xs[::-1]
        first, *projects = self.projects
        y: Tensor = first(coarsest)
        for project, x in zip(projects, finer, strict=True):
            y = project(x + F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=True))
        return y
