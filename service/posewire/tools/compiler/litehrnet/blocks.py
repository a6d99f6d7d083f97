"""The two kinds of blocks of the family."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from posewire.registry.networks.litehrnet.channels import FeatureMap, Slots, shuffled
from posewire.tools.compiler.litehrnet.operations import MapOperations


@dataclass(frozen=True, slots=True, eq=False)
class _Active:
    """The part of a branch that a block processes: the whole branch if channels are tracked, else its second half."""

    map: FeatureMap
    half: int  # channels that the block processes
    first: int  # the first of them in the map
    passed: FeatureMap | None  # the first half, if it was split off

    @property
    def own(self) -> Slots:
        """The block's channel, 0 to `half`, of each stored channel; -1: not one of the block's."""
        return np.where(self.map.slots >= self.first, self.map.slots - self.first, -1)


def lite_block(ops: MapOperations, key: str, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
    """Add a block of conditional channel weighting: across resolutions, a depthwise 3x3, by the map's mean; then the shuffle."""
    active = [_active(ops, m) for m in maps]
    weighted = _weight_across(ops, f"{key}.cross_resolution_weighting", active)
    results = []
    for branch, (part, source) in enumerate(zip(active, weighted, strict=True)):
        spatial = ops.depthwise(source, ops.conv_bn(f"{key}.depthwise_convs.{branch}"), first=part.first)
        weight = _weight_by_mean(ops, f"{key}.spatial_weighting.{branch}", replace(part, map=spatial))
        results.append(_merge(ops, replace(part, map=ops.weighted(spatial, weight))))
    return results


def naive_block(ops: MapOperations, key: str, source: FeatureMap) -> FeatureMap:
    """ShuffleNetV2's block (arXiv 1807.11164): 1x1, depthwise 3x3, 1x1 on half of the channels, then the shuffle."""
    part = _active(ops, source)
    inner = ops.pointwise([part.map.renamed(part.own)], ops.conv_bn(f"{key}.branch2.0"), ops.straight(part.half), relu=True)
    inner = ops.depthwise(inner, ops.conv_bn(f"{key}.branch2.1"))
    # The unchanged channels are added before the rectifier, which does not change them: they are rectified already.
    passing = [] if part.passed else [ops.masked(source, part.own < 0)]
    result = ops.pointwise([inner], ops.conv_bn(f"{key}.branch2.2"), part.own, relu=True, gain=source.gain, add=passing)
    return _merge(ops, replace(part, map=result.renamed(part.map.slots)))


def _active(ops: MapOperations, source: FeatureMap) -> _Active:
    half = (int(source.slots.max()) + 1) // 2
    if ops.passes.track_channels:
        return _Active(source, half, half, None)
    left, right = (replace(source, tensor=t, slots=np.arange(half)) for t in ops.builder.split(source.tensor, [half, half]))
    return _Active(right, half, 0, left)


def _merge(ops: MapOperations, part: _Active) -> FeatureMap:
    if part.passed is None:
        return part.map.renamed(shuffled(part.map.slots, part.half))
    return ops.concatenated_and_shuffled([part.passed, part.map])


def _weight_across(ops: MapOperations, key: str, active: Sequence[_Active]) -> list[FeatureMap]:
    """Multiply every branch by weights that are computed from all branches, at the size of the coarsest."""
    builder, coarsest = ops.builder, active[-1].map
    factors = [part.map.height // coarsest.height for part in active]
    starts = np.cumsum([0, *(part.half for part in active)])
    rows = [np.where(part.own >= 0, part.own + start, -1) for part, start in zip(active, starts, strict=False)]
    pooled = []
    for part, factor, row in zip(active, factors, rows, strict=True):
        tensor = part.map.tensor
        if factor > 1:
            tensor = builder.node("AveragePool", tensor, kernel_shape=[factor] * 2, strides=[factor] * 2)
        pooled.append((tensor, row, part.map.gain))
    hidden = ops.hidden(pooled, ops.conv_bn(f"{key}.conv1"))
    outgoing = ops.conv_bn(f"{key}.conv2")
    results = []
    for part, factor, row in zip(active, factors, rows, strict=True):
        weight = builder.upsample(ops.gate(hidden, outgoing, row), factor, factor)
        results.append(replace(part.map, tensor=builder.node("Mul", part.map.tensor, weight)))
    return results


def _weight_by_mean(ops: MapOperations, key: str, part: _Active) -> str:
    """Return the weights (N, S, 1, 1) of a map's channels by their means; 1 for channels that the block does not process."""
    mean = ops.builder.node("GlobalAveragePool", part.map.tensor)
    hidden = ops.hidden([(mean, part.own, part.map.gain)], ops.conv_bn(f"{key}.conv1"))
    return ops.gate(hidden, ops.conv_bn(f"{key}.conv2"), part.own)
