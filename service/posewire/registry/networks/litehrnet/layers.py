"""The layers of Lite-HRNet, and its parts as sequences of layers, in the order and with the keys of a checkpoint.

`channels` are those of a module's branches, finest first. A stride is in pixels of the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

FINEST: Final = 4  # stride of the finest branch
POOLED: Final = 0  # instead of a stride: one value for the whole map


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution, padded by half its kernel."""

    key: str
    inputs: int  # channels
    outputs: int  # channels
    stride: int  # of the output
    kernel: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (O, I / groups, k, k)."""
        return self.outputs, self.inputs // self.groups, self.kernel, self.kernel


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch normalisation."""

    key: str
    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Relu:
    """A rectifier; sigmoids are not listed, because the published counts leave them out."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Pool:
    """The mean of a whole map."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Upsample:
    """Nearest-neighbour enlargement to `stride`."""

    stride: int


Layer: TypeAlias = Conv | Norm | Relu | Pool | Upsample


def _stride(branch: int) -> int:
    return FINEST << branch


def _conv_bn(key: str, inputs: int, outputs: int, stride: int, *, kernel: int = 1, groups: int = 1, relu: bool = False) -> Iterator[Layer]:
    yield Conv(f"{key}.conv", inputs, outputs, stride, kernel, groups)
    yield Norm(f"{key}.bn", outputs, stride)
    if relu:
        yield Relu(outputs, stride)


def _separable(key: str, inputs: int, outputs: int, stride: int, *, relu: bool) -> Iterator[Layer]:
    yield Conv(f"{key}.0", inputs, inputs, stride, kernel=3, groups=inputs)
    yield Norm(f"{key}.1", inputs, stride)
    yield Conv(f"{key}.2", inputs, outputs, stride)
    yield Norm(f"{key}.3", outputs, stride)
    if relu:
        yield Relu(outputs, stride)


def stem(key: str, whole: int, middle: int) -> Iterator[Layer]:
    """Yield the layers between the image and one branch of `whole` channels; the widest layer has `middle` channels."""
    half = whole // 2
    yield from _conv_bn(f"{key}.conv1", 3, whole, 2, kernel=3, relu=True)
    yield from _conv_bn(f"{key}.branch1.0", half, half, FINEST, kernel=3, groups=half)
    yield from _conv_bn(f"{key}.branch1.1", half, half, FINEST, relu=True)
    yield from _conv_bn(f"{key}.expand_conv", half, middle, 2, relu=True)
    yield from _conv_bn(f"{key}.depthwise_conv", middle, middle, FINEST, kernel=3, groups=middle)
    yield from _conv_bn(f"{key}.linear_conv", middle, half, FINEST, relu=True)


def transition(key: str, previous: tuple[int, ...], channels: tuple[int, ...]) -> Iterator[Layer]:
    """Yield the layers between the branches of two stages; the next stage has one branch more."""
    for branch, outputs in enumerate(channels):
        if branch == len(previous):  # the new branch, from the coarsest so far
            yield from _separable(f"{key}.{branch}.0", previous[-1], outputs, _stride(branch), relu=True)
        elif outputs != previous[branch]:
            yield from _separable(f"{key}.{branch}", previous[branch], outputs, _stride(branch), relu=True)


def lite_blocks(key: str, blocks: int, channels: tuple[int, ...], cross_reduction: int, spatial_reduction: int) -> Iterator[Layer]:
    """Yield blocks of conditional channel weighting: across resolutions at the size of the coarsest branch, depthwise, by a map's mean."""
    halves = [c // 2 for c in channels]
    total, coarsest = sum(halves), _stride(len(halves) - 1)
    hidden = total // cross_reduction
    for block in range(blocks):
        path = f"{key}.{block}"
        yield from _conv_bn(f"{path}.cross_resolution_weighting.conv1", total, hidden, coarsest, relu=True)
        yield from _conv_bn(f"{path}.cross_resolution_weighting.conv2", hidden, total, coarsest)
        for branch, half in enumerate(halves):
            yield from _conv_bn(f"{path}.depthwise_convs.{branch}", half, half, _stride(branch), kernel=3, groups=half)
        for branch, half in enumerate(halves):
            narrow = half // spatial_reduction
            yield Pool(half, _stride(branch))
            yield Conv(f"{path}.spatial_weighting.{branch}.conv1.conv", half, narrow, POOLED, bias=True)
            yield Relu(narrow, POOLED)
            yield Conv(f"{path}.spatial_weighting.{branch}.conv2.conv", narrow, half, POOLED, bias=True)


def naive_blocks(key: str, blocks: int, channels: tuple[int, ...]) -> Iterator[Layer]:
    """Yield blocks of ShuffleNetV2, of each branch separately."""
    for branch, half in enumerate(c // 2 for c in channels):
        for block in range(blocks):
            path = f"{key}.{branch}.{block}.branch2"
            yield from _conv_bn(f"{path}.0", half, half, _stride(branch), relu=True)
            yield from _conv_bn(f"{path}.1", half, half, _stride(branch), kernel=3, groups=half)
            yield from _conv_bn(f"{path}.2", half, half, _stride(branch), relu=True)


def fuse(key: str, channels: tuple[int, ...]) -> Iterator[Layer]:
    """Yield the layers that add every branch to every other, and one rectifier for all sums."""
    for to, outputs in enumerate(channels):
        for source, inputs in enumerate(channels):
            path = f"{key}.{to}.{source}"
            if source > to:
                yield Conv(f"{path}.0", inputs, outputs, _stride(source))
                yield Norm(f"{path}.1", outputs, _stride(source))
                yield Upsample(_stride(to))
            for halving in range(to - source):
                last = halving == to - source - 1
                yield from _separable(
                    f"{path}.{halving}", inputs, outputs if last else inputs, _stride(source + halving + 1), relu=not last
                )
    yield Relu(channels[-1], _stride(len(channels) - 1))  # as published: the counter of a shared module keeps its last call


def head(key: str, channels: tuple[int, ...]) -> Iterator[Layer]:
    """Yield the layers of the head, from the coarsest branch: each result is enlarged and added to the next finer branch."""
    for step, branch in enumerate(reversed(range(len(channels)))):
        inputs, outputs = channels[branch], channels[max(branch - 1, 0)]
        yield from _conv_bn(f"{key}.{step}.depthwise_conv", inputs, inputs, _stride(branch), kernel=3, groups=inputs)
        yield from _conv_bn(f"{key}.{step}.pointwise_conv", inputs, outputs, _stride(branch), relu=True)
