"""The block that Lite-HRNet is made of: conditional channel weighting, in place."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from posewire.kernels.layers import LayerBuilder, Map, whole
from posewire.kernels.memory import Place
from posewire.kernels.program import Flag, Kind
from posewire.models.litehrnet.channels import shuffled


def block(layers: LayerBuilder, key: str, maps: Sequence[Map]) -> list[Map]:
    """Weighting across resolutions, a depthwise 3x3, weighting by the map's mean, then the shuffle.

    The maps themselves change; what is returned are their channels' new names. The weights by the mean stay beside the map, for
    whoever reads it next.
    """
    maps = [source if source.scale else layers.scaled(source) for source in maps]
    worked = [_worked(source) for source in maps]
    gates, stride = _gates(layers, f"{key}.cross_resolution_weighting", worked)
    at = 0
    for branch, work in enumerate(worked):
        mean = _weigh(layers, f"{key}.depthwise_convs.{branch}.conv", work, gates.at(at), stride, work.height // worked[-1].height)
        _weigh_by_mean(layers, f"{key}.spatial_weighting.{branch}", work, mean)
        at += work.channels
    return [replace(source, order=shuffled(source.order, source.channels // 2)) for source in maps]


def _worked(source: Map) -> Map:
    """The half of the channels that a block works on, named from 0."""
    half = source.channels // 2
    own = np.flatnonzero(source.order >= half)
    first = int(own[0])
    assert first + half - 1 == own[-1], "a block works on one range of channels"
    return source.part(first, half, half)


def _gates(layers: LayerBuilder, key: str, worked: Sequence[Map]) -> tuple[Place, int]:
    """Weights of every branch's channels, made of all of them at the size of the coarsest; and the floats from pixel to pixel."""
    coarsest = worked[-1]
    starts = np.cumsum([0, *(work.channels for work in worked)])
    names = np.concatenate([work.order + start for work, start in zip(worked, starts, strict=False)])
    pooled = layers.new(coarsest.height, coarsest.width, names)
    for work, start in zip(worked, starts, strict=False):
        factor = work.height // coarsest.height
        layers.program.add(
            Kind.POOL,
            *(work.place, work.stride, work.height, work.width, work.channels, factor, work.scale),
            *(pooled.place.at(int(start)), pooled.stride),
        )
    hidden_channels = len(layers.bias(f"{key}.conv1.conv"))
    hidden = layers.new(coarsest.height, coarsest.width, np.arange(whole(hidden_channels)))
    hidden = layers.pointwise(pooled, f"{key}.conv1.conv", replace(hidden, order=np.arange(hidden_channels)), Flag.RELU)
    gates = layers.new(coarsest.height, coarsest.width, np.arange(whole(len(names))))
    layers.pointwise(hidden, f"{key}.conv2.conv", replace(gates, order=names), Flag.SIGMOID)
    return gates.place, gates.stride


def _weigh(layers: LayerBuilder, key: str, work: Map, gates: Place, stride: int, factor: int) -> Place:
    """The weights and the depthwise 3x3, in one pass; the mean of the result."""
    mean = layers.program.buffer(work.channels)
    taps = layers.weight(key)[work.order, 0].reshape(-1, 9).T
    layers.program.add(
        Kind.WEIGH,
        *(work.place, work.stride, work.height, work.width, work.channels, gates, stride, factor, work.scale),
        *(layers.program.constant(taps), layers.vector(layers.bias(key)[work.order]), mean),
        layers.program.buffer(3 * work.width * work.channels),
    )
    return mean


def _weigh_by_mean(layers: LayerBuilder, key: str, work: Map, mean: Place) -> None:
    """Weights of the map's channels from their means, to be multiplied by."""
    inner = layers.matrix(f"{key}.conv1.conv")[:, work.order]
    outer = layers.matrix(f"{key}.conv2.conv")[work.order]
    hidden = whole(len(inner))
    outer = np.pad(outer, ((0, 0), (0, hidden - len(inner))))
    layers.program.add(
        Kind.GATE,
        *(mean, work.channels, hidden, work.channels, layers.panels(inner), layers.vector(layers.bias(f"{key}.conv1.conv"))),
        *(layers.panels(outer), layers.program.buffer(hidden + whole(work.channels))),
        *(layers.vector(layers.bias(f"{key}.conv2.conv")[work.order]), work.scale),
    )
