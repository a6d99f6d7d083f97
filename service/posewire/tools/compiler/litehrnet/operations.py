"""Operations on feature maps whose channels may be in any order, as nodes of a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from posewire.registry.networks.litehrnet.channels import FeatureMap, Slots, gather, spread, straight
from posewire.registry.weights.norms import Vector, scale_and_shift
from posewire.tools.compiler.litehrnet.builder import OnnxBuilder
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import FloatArray

_OPEN = 30.0  # a logit whose sigmoid is 1 in float32


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A convolution and the affine map of each channel after it: `scale` x convolution + `shift`."""

    weight: npt.NDArray[np.float64]  # (O, I / groups, k, k)
    scale: Vector  # (O,)
    shift: Vector  # (O,)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """The (O, I) matrix of a 1x1 convolution."""
        return self.weight[:, :, 0, 0]

    def times(self, factor: float) -> "Affine":
        """Return the same with `factor` times the output."""
        return replace(self, scale=self.scale * factor, shift=self.shift * factor)

    def of_multiples(self, factors: Sequence[float]) -> "Affine":
        """Return the same for an input whose channels are (I / groups,) `factors` times too large."""
        return replace(self, weight=self.weight / np.reshape(factors, (1, -1, 1, 1)))

    def part(self, channels: slice) -> "Affine":
        """Return some of the outputs."""
        return Affine(self.weight[channels], self.scale[channels], self.shift[channels])


class MapOperations:
    """Adds operations on feature maps to a graph, with the weights of a checkpoint."""

    def __init__(self, builder: OnnxBuilder, state: Mapping[str, FloatArray], passes: Passes) -> None:
        self.builder = builder
        self.passes = passes
        self._state = state

    def affine(self, conv: str, norm: str) -> Affine:
        """Return the convolution `conv` with the batch norm `norm` after it; with its bias if there is no such norm."""
        weight = self._state[f"{conv}.weight"].astype(np.float64)
        if f"{norm}.weight" not in self._state:
            return Affine(weight, np.ones(len(weight)), self._state[f"{conv}.bias"].astype(np.float64))
        return Affine(weight, *scale_and_shift(self._state, norm))

    def straight(self, channels: int) -> Slots:
        """Return the channels of a new map in the network's order."""
        return straight(channels, padded=self.passes.track_channels)

    def pointwise(
        self,
        sources: Sequence[FeatureMap],
        weights: Affine,
        slots: Slots,
        *,
        gain: float = 1.0,
        add: Sequence[str] = (),
        relu: bool = False,
    ) -> FeatureMap:
        """Add a 1x1 convolution over the channels of all `sources`, plus the tensors `add`.

        Several sources are convolved one by one and added: cheaper than a concatenation before one convolution.
        """
        weights = weights.times(gain)
        total: str | None = None
        for source in sources:
            matrix = gather(weights.matrix, slots, source.slots) / source.gain
            total = self._convolved(source.tensor, matrix[:, :, None, None], weights, slots, total)
        assert total is not None
        for term in add:
            total = self.builder.node("Add", total, term)
        if relu:
            total = self.builder.node("Relu", total)
        return FeatureMap(total, slots, sources[0].height, sources[0].width, gain)

    def _convolved(self, tensor: str, weight: npt.NDArray[np.float64], weights: Affine, slots: Slots, total: str | None) -> str:
        folded = weight * spread(weights.scale, slots)[:, None, None, None]
        result = self.builder.conv(tensor, folded, spread(weights.shift, slots) if total is None else None)
        return result if total is None else self.builder.node("Add", result, total)

    def _filtered(self, tensor: str, stored: Affine, *, stride: int, groups: int = 1) -> str:
        """Add a convolution with the weights of the stored channels; its batch norm is part of them."""
        folded = stored.weight * stored.scale[:, None, None, None]
        return self.builder.conv(tensor, folded, stored.shift, stride=stride, groups=groups)

    def depthwise(self, source: FeatureMap, weights: Affine, *, stride: int = 1, first: int = 0) -> FeatureMap:
        """Add a depthwise 3x3 convolution of the channels from `first` on; the channels before do not change."""
        own = np.where(source.slots >= first, source.slots - first, -1)
        passing = (source.slots >= 0) & (source.slots < first)
        identity = np.zeros((len(source.slots), 1, 3, 3))
        identity[passing, 0, 1, 1] = 1
        kernel = spread(weights.weight, own) + identity
        scale = np.where(passing, 1.0, spread(weights.scale, own))
        stored = Affine(kernel, scale, spread(weights.shift, own) * source.gain)
        result = self._filtered(source.tensor, stored, stride=stride, groups=len(source.slots))
        return replace(source, tensor=result, height=source.height // stride, width=source.width // stride)

    def masked(self, source: FeatureMap, kept: npt.NDArray[np.bool_]) -> str:
        """Return the stored channels that are `kept` (S,); the others become zeros."""
        # A depthwise convolution: ONNX Runtime has no broadcasting product in its NCHWc layout.
        return self.builder.conv(source.tensor, kept[:, None, None, None].astype(np.float64), None, groups=len(kept))

    def separable(
        self,
        sources: Sequence[FeatureMap],
        key: str,
        slots: Slots,
        *,
        stride: int,
        relu: bool,
        gain: float = 1.0,
        factor: float = 1.0,
        add: Sequence[str] = (),
    ) -> FeatureMap:
        """Add a depthwise 3x3 and a 1x1 convolution, each with its batch norm, as the published `key`.0 to `key`.3."""
        spatial = self.affine(f"{key}.0", f"{key}.1")
        filtered = [self.depthwise(source, spatial, stride=stride) for source in sources]
        return self.pointwise(filtered, self.affine(f"{key}.2", f"{key}.3").times(factor), slots, gain=gain, add=add, relu=relu)

    def entry(self, image: str, weights: Affine, height: int, width: int) -> FeatureMap:
        """Add the first convolution, of an image (N, 3, 2 x height, 2 x width), and its rectifier."""
        tensor = self._filtered(image, weights, stride=2)
        return FeatureMap(self.builder.node("Relu", tensor), np.arange(len(weights.weight)), height, width)

    def concatenated_and_shuffled(self, halves: Sequence[FeatureMap]) -> FeatureMap:
        """Interleave two maps of equally many channels, with nodes: for graphs that do not track channels."""
        left, right = halves
        builder, half = self.builder, len(left.slots)
        whole = builder.node("Concat", left.tensor, right.tensor, axis=1)
        grouped = builder.node("Reshape", whole, builder.constant([0, 2, half, left.height, left.width], np.int64))
        transposed = builder.node("Transpose", grouped, perm=[0, 2, 1, 3, 4])
        tensor = builder.node("Reshape", transposed, builder.constant([0, 2 * half, left.height, left.width], np.int64))
        return replace(left, tensor=tensor, slots=np.arange(2 * half))

    def conv_bn(self, key: str) -> Affine:
        """Return the published `key`.conv with `key`.bn, or with its bias."""
        return self.affine(f"{key}.conv", f"{key}.bn")

    def weighted(self, source: FeatureMap, weight: str) -> FeatureMap:
        """Multiply the map by a weight of each channel, (N, S, 1, 1)."""
        if self.passes.upsample_weights:
            weight = self.builder.upsample(weight, source.height, source.width)
        return replace(source, tensor=self.builder.node("Mul", source.tensor, weight))

    def hidden(self, sources: Sequence[tuple[str, Slots, float]], weights: Affine) -> tuple[str, Slots]:
        """Add the hidden layer of a weighting: a 1x1 convolution over all sources (tensor, inputs, gain), rectified."""
        slots = self.straight(len(weights.weight))
        maps = [FeatureMap(tensor, inputs, 1, 1, gain) for tensor, inputs, gain in sources]
        return self.pointwise(maps, weights, slots, relu=True).tensor, slots

    def gate(self, hidden: tuple[str, Slots], weights: Affine, outputs: Slots) -> str:
        """Return weights 0..1 from the hidden layer, for stored channels; the weight is 1 if `outputs` is -1."""
        tensor, inputs = hidden
        matrix = gather(weights.matrix, outputs, inputs)
        scale, shift = spread(weights.scale, outputs, 1.0), spread(weights.shift, outputs, _OPEN)
        stored = Affine(matrix[:, :, None, None], scale, shift)
        logits = self.pointwise([FeatureMap(tensor, np.arange(len(inputs)), 1, 1)], stored, np.arange(len(outputs)))
        return self.builder.node("Sigmoid", logits.tensor)
