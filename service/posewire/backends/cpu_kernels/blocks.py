"""The two kinds of block that the Lite-HRNet family is made of, in place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from posewire.backends.cpu_kernels.layers import LayerBuilder, Map, whole
from posewire.backends.cpu_kernels.memory import Place
from posewire.backends.cpu_kernels.program import Flag, Kind
from posewire.registry.networks.litehrnet.channels import shuffled
from posewire.types import FloatArray


def lite_block(layers: LayerBuilder, key: str, maps: Sequence[Map]) -> list[Map]:
    """Conditional channel weighting: weighting across resolutions, a depthwise 3x3, weighting by the map's mean, then the shuffle.

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
    return [_shuffled(source) for source in maps]


def naive_block(layers: LayerBuilder, key: str, source: Map) -> Map:
    """ShuffleNetV2's block (arXiv 1807.11164): 1x1, depthwise 3x3, 1x1 on half of the channels, then the shuffle.

    The map itself changes; the result is the same map with its channels' new names. `layers` has the weights `in_whole_vectors`.
    """
    work = _worked(source)
    work = replace(work, order=np.concatenate([work.order, np.arange(work.channels, whole(work.channels))]))
    expand, filtering, reduce = (f"{key}.branch2.{number}.conv" for number in range(3))
    inner = layers.pointwise(work, expand, layers.new(work.height, work.width, np.arange(work.channels)), Flag.RELU)
    layers.separable(inner, (filtering, reduce), work, 1, Flag.RELU)
    return _shuffled(source)


def in_whole_vectors(state: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """A network's weights, with naive blocks of as many channels as whole vectors hold: those that come in addition pass.

    The kernels write whole vectors, and the half that a block works on may end within one. The rest of that vector belongs to the
    other half, which has to stay: it goes through the block's convolutions unchanged. A rectifier leaves it alone, for a block's
    input was rectified too.
    """
    widened = dict(state)
    for key in state:
        name, _, parameter = key.rpartition(".")
        if ".branch2." in key and parameter == "weight":
            widened[key], widened[f"{name}.bias"] = _with_passing(state[key], state[f"{name}.bias"])
    return widened


def _with_passing(weight: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A convolution (C, C, 1, 1), or a depthwise one (C, 1, k, k), with `whole(C)` channels; the new ones pass."""
    added = np.arange(len(bias), whole(len(bias)))
    room, depthwise = (0, len(added)), weight.shape[1] == 1
    weight = np.pad(weight, (room, (0, 0) if depthwise else room, (0, 0), (0, 0)))
    middle = weight.shape[-1] // 2
    weight[added, 0 if depthwise else added, middle, middle] = 1
    return weight, np.pad(bias, room)


def _shuffled(source: Map) -> Map:
    return replace(source, order=shuffled(source.order, source.channels // 2))


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
