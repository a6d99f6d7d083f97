"""Lite-HRNet as a program: which operation works on what, and in which order channels lie.

A block works on the second half of its channels and shuffles the halves; two blocks make a module. A module's maps hold
their channels in `module_order`, in which what each of its two blocks works on is one range. Where a module ends its branches
are added anyway, and only there channels are moved, into the next module's order.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.backends.cpu_kernels.blocks import in_whole_vectors, lite_block, naive_block
from posewire.backends.cpu_kernels.folded import Folded
from posewire.backends.cpu_kernels.layers import LayerBuilder, Map, Order, whole
from posewire.backends.cpu_kernels.program import Flag, Kind, Program, ProgramBuilder
from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.channels import shuffled
from posewire.registry.networks.litehrnet.spec import Variant, check_size

Channels = npt.NDArray[np.float64]  # (3,): a value for each of R, G, B

_STEM: Final = 32  # channels that entry.h is written for
_STRIDE: Final = 4  # image pixels of a heatmap pixel


def supports(variant: Variant) -> bool:
    """True if the kernels have every operation of a variant."""
    return variant.blocks == 2 and variant.stem_channels == _STEM and not any(c % 8 for c in variant.channels)


def plan(folded: Folded, height: int, width: int, mean: Sequence[float], std: Sequence[float]) -> Program:
    """The program of a network for images of `height` x `width` pixels.

    Args:
        folded: the network.
        height: of the image, pixels, a multiple of 32.
        width: of the image, pixels, a multiple of 32.
        mean: of the channels R, G, B, 0..255.
        std: of the channels R, G, B, 0..255.

    Raises:
        ModelError: a size is not a multiple of 32, or the kernels have not all that the variant is made of.
    """
    check_size(height, width)
    if not supports(folded.variant):
        raise ModelError(f"{folded.variant.name} cannot run on Posewire's kernels; serve its ONNX file")
    return _Planner(folded).plan(height, width, np.asarray(mean, np.float64), np.asarray(std, np.float64))


def module_order(channels: int) -> Order:
    """The order in which a module's first block works on the first half, and its second on the half a quarter further."""
    half, quarter = channels // 2, channels // 4
    numbers = np.arange(channels)
    second_only = numbers[half - quarter : half]
    return np.concatenate([numbers[half:], second_only, numbers[: half - quarter]])


class _Planner:
    def __init__(self, folded: Folded) -> None:
        self._variant, self._sigmoid = folded.variant, folded.sigmoid
        self._program = ProgramBuilder()
        self._layers = LayerBuilder(self._program, in_whole_vectors(folded.state))

    def plan(self, height: int, width: int, mean: Channels, std: Channels) -> Program:
        maps = [self._stem(height, width, mean, std)]
        for stage, modules in enumerate(self._variant.modules):
            maps = self._transition(f"backbone.transition{stage}", maps, self._variant.channels[: stage + 2])
            for module in range(modules):
                key = f"backbone.stage{stage}.{module}"
                maps = self._blocks(f"{key}.layers", maps)
                maps = self._fuse(f"{key}.fuse_layers", maps)
        self._finish(self._head(maps))
        return self._program.program(height, width, (self._variant.keypoints, height // _STRIDE, width // _STRIDE))

    def _stem(self, height: int, width: int, mean: Channels, std: Channels) -> Map:
        """From the image to a quarter of its size; normalised by the first convolution, around the image is the mean."""
        layers, key = self._layers, "backbone.stem"
        weight = layers.weight(f"{key}.conv1.conv") / std[:, None, None]
        bias = layers.bias(f"{key}.conv1.conv") - (weight * mean[:, None, None]).sum((1, 2, 3))
        first = layers.new(height // 2, width // 2, np.arange(_STEM))
        constants = (self._program.constant(values) for values in (mean, weight.transpose(2, 3, 1, 0), bias))
        scratch = self._program.buffer(9 * (width + 2))
        self._program.add(Kind.ENTRY, height, width, *constants, first.place, scratch)
        half = _STEM // 2
        joined = layers.new(height // 4, width // 4, shuffled(np.arange(_STEM), half))
        left, right = (replace(joined, place=joined.place.at(at), order=np.arange(half)) for at in (0, half))
        keys = (f"{key}.branch1.0.conv", f"{key}.branch1.1.conv")
        layers.separable(first.part(0, half), keys, left, 2, Flag.RELU)
        expand = f"{key}.expand_conv.conv"
        wide = layers.new(first.height, first.width, np.arange(len(layers.bias(expand))))
        wide = layers.pointwise(first.part(half, half, half), expand, wide, Flag.RELU)
        layers.separable(wide, (f"{key}.depthwise_conv.conv", f"{key}.linear_conv.conv"), right, 2, Flag.RELU)
        return joined

    def _transition(self, key: str, sources: list[Map], channels: Sequence[int]) -> list[Map]:
        maps = []
        for branch, outputs in enumerate(channels):
            order = module_order(outputs)
            if branch >= len(sources):
                source = sources[-1]
                out = self._layers.new(source.height // 2, source.width // 2, order)
                maps.append(self._layers.separable(source, _pair(f"{key}.{branch}.0"), out, 2, Flag.RELU))
            elif outputs != sources[branch].channels:
                source = sources[branch]
                out = self._layers.new(source.height, source.width, order)
                maps.append(self._layers.separable(source, _pair(f"{key}.{branch}"), out, 1, Flag.RELU))
            else:
                maps.append(sources[branch])
        return maps

    def _blocks(self, key: str, maps: list[Map]) -> list[Map]:
        for number in range(self._variant.blocks):
            if self._variant.block == "lite":
                maps = lite_block(self._layers, f"{key}.{number}", maps)
            else:
                maps = [naive_block(self._layers, f"{key}.{branch}.{number}", source) for branch, source in enumerate(maps)]
        return maps

    def _fuse(self, key: str, maps: list[Map]) -> list[Map]:
        """Every branch added to every other, as published.

        The published loop accumulates in place: branch 0 is doubled, the others read the sum, and count its term twice.
        """
        finest = maps[0]
        rectified = self._layers.new(finest.height, finest.width, module_order(finest.channels))
        coarser = self._from_coarser(f"{key}.0", 0, maps)
        total = self._layers.reordered(finest, rectified.order, coarser, factor=2, rectified=rectified)
        fused = [rectified]
        for branch in range(1, len(maps)):
            coarser = self._from_coarser(f"{key}.{branch}", branch, maps)
            out = self._layers.reordered(maps[branch], module_order(maps[branch].channels), coarser)
            for source in range(1, branch):
                self._from_finer(f"{key}.{branch}.{source}", maps[source], branch - source, out, Flag.ACCUMULATE)
            self._from_finer(f"{key}.{branch}.0", total, branch, out, Flag.ACCUMULATE | Flag.RELU, factor=2)
            fused.append(out)
        return fused

    def _from_coarser(self, key: str, to: int, maps: Sequence[Map]) -> Map | None:
        """The sum of all coarser branches' terms, at half the size of branch `to`, in its next order; None: there are none."""
        total: Map | None = None
        for source in range(len(maps) - 1, to, -1):
            finer = maps[source]
            if total is None:
                out, flags = self._layers.new(finer.height, finer.width, module_order(maps[to].channels)), Flag.NONE
            else:
                out, flags = self._layers.repeated(total), Flag.ACCUMULATE
            total = self._layers.pointwise(finer, f"{key}.{source}.0", out, flags)
        return total

    def _from_finer(self, key: str, source: Map, halvings: int, out: Map, flags: Flag, factor: float = 1.0) -> None:
        for step in range(halvings - 1):
            smaller = self._layers.new(source.height // 2, source.width // 2, np.arange(source.channels))
            source = self._layers.separable(source, _pair(f"{key}.{step}"), smaller, 2, Flag.RELU)
        self._layers.separable(source, _pair(f"{key}.{halvings - 1}"), out, 2, flags, factor)

    def _head(self, maps: Sequence[Map]) -> Map:
        """From the coarsest branch up: each step's result is enlarged and added to the next finer branch."""
        result: Map | None = None
        for step, branch in enumerate(reversed(range(len(maps)))):
            key = f"backbone.head_layer.projects.{step}"
            source = maps[branch] if result is None else self._layers.enlarged(maps[branch], result)
            out = self._layers.new(source.height, source.width, maps[max(branch - 1, 0)].order)
            keys = (f"{key}.depthwise_conv.conv", f"{key}.pointwise_conv.conv")
            result = self._layers.separable(source, keys, out, 1, Flag.RELU)
        assert result is not None
        return result

    def _finish(self, features: Map) -> None:
        keypoints = self._variant.keypoints
        heatmaps = replace(self._layers.new(features.height, features.width, np.arange(whole(keypoints))), order=np.arange(keypoints))
        self._layers.pointwise(features, "final_layer", heatmaps, Flag.SIGMOID if self._sigmoid else Flag.NONE)
        self._program.add(Kind.PLANES, heatmaps.place, heatmaps.stride, heatmaps.pixels, keypoints)


def _pair(key: str) -> tuple[str, str]:
    """The published keys of a depthwise and of the 1x1 convolution after it."""
    return f"{key}.0", f"{key}.2"
