"""The Lite-HRNet family in PyTorch, for training and export.

Yu et al., CVPR 2021, arXiv 2104.06403. Names of modules are those of the authors' checkpoints, so that a state dict has exactly
the keys of `posewire.registry.networks.litehrnet.spec.parameters`, and `num_batches_tracked`. `xs` is always a list of the branches' maps,
finest first: branch b is (N, C_b, H / (4 * 2**b), W / (4 * 2**b)).
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor, nn

from model_store.training.blocks import ConvNorm, IterativeHead, ShuffleUnit, depthwise, separable
from model_store.training.channel_weighting import ConditionalChannelWeighting
from model_store.training.operators import add_repeated, join_shuffled, split
from posewire.registry.networks.litehrnet.spec import Variant


class PoseNetwork(nn.Module):
    """Backbone and final layer: (N, 3, H, W) to (N, K, H / 4, W / 4) logits of heatmaps; H and W are multiples of 32."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.backbone = Backbone(variant)
        self.final_layer = nn.Conv2d(variant.channels[0], variant.keypoints, 1)

    def forward(self, image: Tensor) -> Tensor:
        heatmaps: Tensor = self.final_layer(self.backbone(image))
        return heatmaps


class Backbone(nn.Module):
    """(N, 3, H, W) to the finest branch, (N, C_0, H / 4, W / 4)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.stem = Stem(variant.stem_channels, variant.stem_channels * variant.stem_expansion)
        self.stages = len(variant.modules)
        previous: Sequence[int] = (variant.stem_channels,)
        for stage, modules in enumerate(variant.modules):
            channels = variant.channels[: stage + 2]
            self.add_module(f"transition{stage}", _transition(previous, channels))
            self.add_module(f"stage{stage}", nn.Sequential(*(FusedModule(variant, channels) for _ in range(modules))))
            previous = channels
        self.head_layer = IterativeHead(previous)

    def forward(self, image: Tensor) -> Tensor:
        xs = [self.stem(image)]
        for stage in range(self.stages):
            transition = self.get_submodule(f"transition{stage}").children()
            xs = [convert(x) for convert, x in zip(transition, [*xs, xs[-1]], strict=True)]
            xs = self.get_submodule(f"stage{stage}")(xs)
        finest: Tensor = self.head_layer(xs)
        return finest


def meeting_places(network: nn.Module, after: Literal["modules", "blocks"]) -> list[str]:
    """Names of the modules whose maps can be another network's of the same shape: every fused module, and every block of them.

    Blocks of conditional channel weighting have no maps of their own to compare; a network of another family has no places.
    """
    kinds = (FusedModule,) if after == "modules" else (FusedModule, ShuffleUnit)
    return [name for name, module in network.named_modules() if isinstance(module, kinds)]


class Stem(nn.Module):
    """(N, 3, H, W) to (N, channels, H / 4, W / 4); `middle` are the channels of the widest layer."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvNorm(3, channels, 3, stride=2, activation=F.relu)
        self.branch1 = nn.Sequential(depthwise(half, 2), ConvNorm(half, half, activation=F.relu))
        self.expand_conv = ConvNorm(half, middle, activation=F.relu)
        self.depthwise_conv = depthwise(middle, 2)
        self.linear_conv = ConvNorm(middle, half, activation=F.relu)

    def forward(self, image: Tensor) -> Tensor:
        a, b = split(self.conv1(image))
        return join_shuffled(self.branch1(a), self.linear_conv(self.depthwise_conv(self.expand_conv(b))))


def _transition(previous: Sequence[int], channels: Sequence[int]) -> nn.ModuleList:
    """One module a branch of the next stage; the last makes the new branch from the coarsest one."""
    kept = [nn.Identity() if a == b else separable(a, b, 1, relu=True) for a, b in zip(previous, channels, strict=False)]
    return nn.ModuleList([*kept, nn.Sequential(separable(previous[-1], channels[-1], 2, relu=True))])


class Branches(nn.ModuleList):
    """One module a branch: `xs` to `xs`."""

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [branch(x) for branch, x in zip(self, xs, strict=True)]


def _blocks(variant: Variant, channels: Sequence[int]) -> nn.Module:
    if variant.block == "naive":
        return Branches(nn.Sequential(*(ShuffleUnit(c) for _ in range(variant.blocks))) for c in channels)
    weighting = (ConditionalChannelWeighting(channels, variant.cross_reduction, variant.spatial_reduction) for _ in range(variant.blocks))
    return nn.Sequential(*weighting)


def _fuse_path(channels: Sequence[int], source: int, to: int) -> nn.Module:
    """From a branch to the channels of another, and to its size if that is smaller."""
    inputs, outputs = channels[source], channels[to]
    if source == to:
        return nn.Identity()
    if source > to:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    halvings = [separable(inputs, inputs, 2, relu=True) for _ in range(to - source - 1)]
    return nn.Sequential(*halvings, separable(inputs, outputs, 2, relu=False))


class FusedModule(nn.Module):
    """Blocks, then every branch added to every other: `xs` to `xs` of the same shapes."""

    def __init__(self, variant: Variant, channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = _blocks(variant, channels)
        branches = range(len(channels))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_fuse_path(channels, source, to) for source in branches) for to in branches)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = self.layers(xs)
        # The authors' code adds in place, and published weights are trained with what follows from it: the finest branch counts
        # twice in its own sum, and every other sum takes twice the term of that finished sum, not of the branch.
        first, *others = [list(row.children()) for row in self.fuse_layers]
        finest = add_repeated(xs[0], *_converted(first, xs))
        return [F.relu(finest), *(add_repeated(row[0](finest), *_converted(row, xs), relu=True) for row in others)]


def _converted(row: Sequence[nn.Module], xs: Sequence[Tensor]) -> list[Tensor]:
    """All branches but the finest, each by its path."""
    return [path(x) for path, x in zip(row[1:], xs[1:], strict=True)]
