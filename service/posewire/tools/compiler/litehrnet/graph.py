"""Compile a checkpoint to an optimised ONNX graph."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from posewire.registry.networks.litehrnet.channels import FeatureMap, Slots, shuffled
from posewire.registry.networks.litehrnet.spec import Variant, check_size
from posewire.tools.compiler.litehrnet.blocks import lite_block, naive_block
from posewire.tools.compiler.litehrnet.builder import OnnxBuilder
from posewire.tools.compiler.litehrnet.ends import GraphEnds
from posewire.tools.compiler.litehrnet.operations import MapOperations
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.types import FloatArray


def compile_graph(
    variant: Variant,
    state: Mapping[str, FloatArray],
    height: int,
    width: int,
    options: GraphOptions | None = None,
    *,
    batch: int | str = "batch",
) -> onnx.ModelProto:
    """Compile the network to an ONNX graph from `input`, images, to `heatmaps` or `keypoints`.

    `input` is (N, 3, height, width) float32, normalised, or pixels 0..255: (N, 3, height, width) or (N, height,
    width, 3) uint8, in the network's order of colours. `heatmaps` are (N, K, height / 4, width / 4) float32, `keypoints`
    (N, K, 3) float32: x y in pixels of the input, where heatmap pixel i is at 4i, and the score 0..1.

    The graph is optimised for one image at a time on a CPU. There, set a batch with a name to 1
    (`add_free_dimension_override_by_name`); else ONNX Runtime changes the layout of maps repeatedly. On a GPU it may stay open.

    Args:
        variant: of the checkpoint.
        state: its tensors, as `checkpoint.require` returns them.
        height: of the input, pixels, a multiple of 32.
        width: of the input, pixels, a multiple of 32.
        options: None: from float32 to heatmaps, with all passes.
        batch: N, or a name: then any.

    Raises:
        ModelError: a size is not a multiple of 32, or a weight is too large for float16.
    """
    check_size(height, width)
    return _Compiler(variant, state, height, width, options or GraphOptions()).compile(batch)


class _Compiler:
    def __init__(self, variant: Variant, state: Mapping[str, FloatArray], height: int, width: int, options: GraphOptions) -> None:
        self._variant = variant
        self._height, self._width = height, width
        self._options = options
        self._passes = options.passes
        self._builder = OnnxBuilder(half=options.precision == "fp16")
        self._ops = MapOperations(self._builder, state, options.passes)

    def compile(self, batch: int | str) -> onnx.ModelProto:
        ends = GraphEnds(self._builder, self._options, self._variant.keypoints, self._height, self._width)
        sources: list[list[FeatureMap]] = [self._stem(*ends.image())]
        previous: tuple[int, ...] = (self._variant.stem_channels,)
        for stage, modules in enumerate(self._variant.modules):
            channels = self._variant.channels[: stage + 2]
            maps = self._transition(f"backbone.transition{stage}", sources, previous, channels)
            for module in range(modules):
                key = f"backbone.stage{stage}.{module}"
                maps = self._fuse(f"{key}.fuse_layers", self._blocks(f"{key}.layers", maps))
            sources, previous = [[m] for m in maps], channels
        features = self._head([source[0] for source in sources])
        heatmaps = self._ops.pointwise([features], self._ops.affine("final_layer", ""), np.arange(self._variant.keypoints))
        ends.finish(heatmaps.tensor)
        return self._builder.model(self._variant.name, [ends.input_info(batch)], [ends.output_info(batch)])

    def _stem(self, image: str, std: Sequence[float]) -> list[FeatureMap]:
        """Reduce the image, whose values are `std` times too large, to a quarter of its size.

        Returns:
            One map; two with half of the channels each if channels are tracked.
        """
        ops, key, half = self._ops, "backbone.stem", self._variant.stem_channels // 2
        first = ops.conv_bn(f"{key}.conv1").of_multiples(std)
        size = self._height // 2, self._width // 2
        if self._passes.track_channels:
            halves = [ops.entry(image, first.part(part), *size) for part in (slice(0, half), slice(half, None))]
        else:
            whole = ops.entry(image, first, *size)
            halves = [FeatureMap(t, np.arange(half), *size) for t in self._builder.split(whole.tensor, [half, half])]
        left = ops.depthwise(halves[0], ops.conv_bn(f"{key}.branch1.0"), stride=2)
        left = ops.pointwise([left], ops.conv_bn(f"{key}.branch1.1"), ops.straight(half), relu=True)
        expand = ops.conv_bn(f"{key}.expand_conv")
        right = ops.pointwise([halves[1]], expand, ops.straight(len(expand.weight)), relu=True)
        right = ops.depthwise(right, ops.conv_bn(f"{key}.depthwise_conv"), stride=2)
        right = ops.pointwise([right], ops.conv_bn(f"{key}.linear_conv"), ops.straight(half), relu=True)
        if not self._passes.track_channels:
            return [ops.concatenated_and_shuffled([left, right])]
        return [left.renamed(shuffled(left.slots, half)), right.renamed(shuffled(np.where(right.slots >= 0, right.slots + half, -1), half))]

    def _transition(
        self, key: str, sources: Sequence[list[FeatureMap]], previous: tuple[int, ...], channels: tuple[int, ...]
    ) -> list[FeatureMap]:
        maps = []
        for branch, outputs in enumerate(channels):
            slots = self._ops.straight(outputs)
            if branch >= len(previous):
                maps.append(self._ops.separable(sources[-1], f"{key}.{branch}.0", slots, stride=2, relu=True))
            elif outputs != previous[branch]:
                maps.append(self._ops.separable(sources[branch], f"{key}.{branch}", slots, stride=1, relu=True))
            else:
                maps.append(sources[branch][0])
        return maps

    def _blocks(self, key: str, maps: list[FeatureMap]) -> list[FeatureMap]:
        for block in range(self._variant.blocks):
            if self._variant.block == "lite":
                maps = lite_block(self._ops, f"{key}.{block}", maps)
            else:
                maps = [naive_block(self._ops, f"{key}.{branch}.{block}", m) for branch, m in enumerate(maps)]
        return maps

    def _fuse(self, key: str, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        """Add every branch to every other, as published.

        The published loop accumulates in place: branch 0 is doubled; the others read the sum, and count its term twice.
        """
        builder, finest = self._builder, maps[0]
        if self._passes.fold_doubling:
            own, gain = finest.tensor, finest.gain / 2
        else:
            own, gain = builder.node("Add", finest.tensor, finest.tensor), finest.gain
        total = replace(finest, tensor=self._sum(f"{key}.0", 0, maps, [own], finest.slots, gain), gain=gain)
        fused = [replace(total, tensor=builder.node("Relu", total.tensor))]
        for branch in range(1, len(maps)):
            target = maps[branch]
            tensor = self._sum(f"{key}.{branch}", branch, [total, *maps[1:]], [target.tensor], target.slots, target.gain, relu=True)
            fused.append(replace(target, tensor=tensor))
        return fused

    def _sum(self, key: str, to: int, maps: Sequence[FeatureMap], add: list[str], slots: Slots, gain: float, *, relu: bool = False) -> str:
        """Add the terms of all other branches, at the size of branch `to`, to the tensors `add`."""
        add = add + self._from_coarser(key, to, maps, slots, gain)
        if to == 0:
            return self._add_all(add)
        terms = [(source, 1.0) for source in range(1, to)]
        # The finest branch's term goes last: it has no upsampled sum to wait for.
        terms = [(0, 2.0), *terms] if self._passes.share_fuse_term else [(0, 1.0), (0, 1.0), *terms]
        tensor = ""
        for i, (source, factor) in enumerate(terms):
            last = i == len(terms) - 1
            tensor = self._from_finer(f"{key}.{source}", maps[source], to - source, slots, gain, factor, add, relu=relu and last)
            add = [tensor]
        return tensor

    def _from_coarser(self, key: str, to: int, maps: Sequence[FeatureMap], slots: Slots, gain: float) -> list[str]:
        terms: list[str] = []
        for source in range(len(maps) - 1, to, -1):
            weights = self._ops.affine(f"{key}.{source}.0", f"{key}.{source}.1")
            if self._passes.sum_before_upsampling:
                term = self._ops.pointwise([maps[source]], weights, slots, gain=gain, add=terms)
                terms = [self._builder.upsample(term.tensor, 2, 2)]
            else:
                term = self._ops.pointwise([maps[source]], weights, slots, gain=gain)
                terms.append(self._builder.upsample(term.tensor, 2 ** (source - to), 2 ** (source - to)))
        return terms

    def _from_finer(
        self,
        key: str,
        source: FeatureMap,
        halvings: int,
        slots: Slots,
        gain: float,
        factor: float,
        add: Sequence[str],
        *,
        relu: bool,
    ) -> str:
        for step in range(halvings - 1):
            channels = int(source.slots.max()) + 1
            source = self._ops.separable([source], f"{key}.{step}", self._ops.straight(channels), stride=2, relu=True)
        step_key = f"{key}.{halvings - 1}"
        return self._ops.separable([source], step_key, slots, stride=2, gain=gain, factor=factor, add=add, relu=relu).tensor

    def _add_all(self, terms: Sequence[str]) -> str:
        total = terms[0]
        for term in terms[1:]:
            total = self._builder.node("Add", total, term)
        return total

    def _head(self, maps: Sequence[FeatureMap]) -> FeatureMap:
        """Enlarge each step's result bilinearly and add it to the next finer branch, from the coarsest on."""
        ops, key = self._ops, "backbone.head_layer.projects"
        result: FeatureMap | None = None
        for step, branch in enumerate(reversed(range(len(maps)))):
            source = maps[branch]
            if result is not None:
                scales = self._builder.constant([1, 1, 2, 2], np.float32)
                larger = self._builder.node(
                    "Resize", result.tensor, "", scales, mode="linear", coordinate_transformation_mode="align_corners"
                )
                source = replace(source, tensor=self._builder.node("Add", source.tensor, larger))
            finer = maps[max(branch - 1, 0)]
            source = ops.depthwise(source, ops.conv_bn(f"{key}.{step}.depthwise_conv"))
            result = ops.pointwise([source], ops.conv_bn(f"{key}.{step}.pointwise_conv"), finer.slots, gain=finer.gain, relu=True)
        assert result is not None
        return result
