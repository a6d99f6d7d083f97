"""The two kinds of block that the family is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from posewire.registry.networks.litehrnet.channels import FeatureMap, Slots, shuffled
from posewire.tools.compiler.litehrnet.operations import MapOperations


@dataclass(frozen=True, slots=True, eq=False)
class _Worked:
    """The part of a branch that a block works on: all of it where channels are tracked, else its second half."""

    map: FeatureMap
    half: int  # channels that the block works on
    first: int  # the first of them in the map
    passed: FeatureMap | None  # the first half, where it was split off

    @property
    def own(self) -> Slots:
        """The block's channel, 0 to `half`, of each stored channel; -1: not its own."""
        return np.where(self.map.slots >= self.first, self.map.slots - self.first, -1)


def lite_block(ops: MapOperations, key: str, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Conditional channel weighting: across resolutions, a depthwise 3x3, by the map's mean; then the shuffle."""
    worked = [_worked(ops, m) for m in maps]
    weighted = _weigh_across(ops, f"{key}.cross_resolution_weighting", worked)
    results = []
    for branch, (work, source) in enumerate(zip(worked, weighted, strict=True)):
        spatial = ops.depthwise(source, ops.conv_bn(f"{key}.depthwise_convs.{branch}"), first=work.first)
        scale = _weigh_by_mean(ops, f"{key}.spatial_weighting.{branch}", replace(work, map=spatial))
        spatial = replace(spatial, scale=scale)
        results.append(_merged(ops, replace(work, map=spatial if ops.passes.defer_spatial_weight else ops.applied(spatial))))
    return results


def naive_block(ops: MapOperations, key: str, source: FeatureMap) -> FeatureMap:
    """ShuffleNetV2's block (arXiv 1807.11164): 1x1, depthwise 3x3, 1x1 on half of the channels, then the shuffle."""
    work = _worked(ops, source)
    inner = ops.pointwise([work.map.renamed(work.own)], ops.conv_bn(f"{key}.branch2.0"), ops.straight(work.half), relu=True)
    inner = ops.depthwise(inner, ops.conv_bn(f"{key}.branch2.1"))
    # What only passes is added before the rectifier, which leaves it alone: a block's input was rectified too.
    passing = [] if work.passed else [ops.masked(source, work.own < 0)]
    result = ops.pointwise([inner], ops.conv_bn(f"{key}.branch2.2"), work.own, relu=True, gain=source.gain, add=passing)
    return _merged(ops, replace(work, map=result.renamed(work.map.slots)))


def _worked(ops: MapOperations, source: FeatureMap) -> _Worked:
    half = (int(source.slots.max()) + 1) // 2
    if ops.passes.track_channels:
        return _Worked(source, half, half, None)
    left, right = (replace(source, tensor=t, slots=np.arange(half)) for t in ops.builder.split(source.tensor, [half, half]))
    return _Worked(right, half, 0, left)


def _merged(ops: MapOperations, work: _Worked) -> FeatureMap:
    if work.passed is None:
        return work.map.renamed(shuffled(work.map.slots, work.half))
    return ops.concatenated_and_shuffled([work.passed, work.map])


def _weigh_across(ops: MapOperations, key: str, worked: Sequence[_Worked]) -> list[FeatureMap]:
    """Multiply every branch by weights that are made of all of them, at the size of the coarsest."""
    builder, coarsest = ops.builder, worked[-1].map
    factors = [work.map.height // coarsest.height for work in worked]
    starts = np.cumsum([0, *(work.half for work in worked)])
    rows = [np.where(work.own >= 0, work.own + start, -1) for work, start in zip(worked, starts, strict=False)]
    deferred = [None if work.map.scale is None else builder.upsample(work.map.scale, coarsest.height, coarsest.width) for work in worked]
    pooled = []
    for work, factor, row, scale in zip(worked, factors, rows, deferred, strict=True):
        tensor = work.map.tensor
        if factor > 1:
            tensor = builder.node("AveragePool", tensor, kernel_shape=[factor] * 2, strides=[factor] * 2)
        pooled.append((tensor if scale is None else builder.node("Mul", tensor, scale), row, work.map.gain))
    hidden = ops.hidden(pooled, ops.conv_bn(f"{key}.conv1"))
    outgoing = ops.conv_bn(f"{key}.conv2")
    results = []
    for work, factor, row, scale in zip(worked, factors, rows, deferred, strict=True):
        weight = ops.gate(hidden, outgoing, row)
        if scale is not None:
            weight = builder.node("Mul", weight, scale)
        product = builder.node("Mul", work.map.tensor, builder.upsample(weight, factor, factor))
        results.append(replace(work.map, tensor=product, scale=None))
    return results


def _weigh_by_mean(ops: MapOperations, key: str, work: _Worked) -> str:
    """Weights (N, S, 1, 1) of a map's channels by their means; 1 for those that the block does not work on."""
    mean = ops.builder.node("GlobalAveragePool", work.map.tensor)
    hidden = ops.hidden([(mean, work.own, work.map.gain)], ops.conv_bn(f"{key}.conv1"))
    return ops.gate(hidden, ops.conv_bn(f"{key}.conv2"), work.own)
