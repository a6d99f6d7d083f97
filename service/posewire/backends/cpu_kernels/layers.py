"""Layers on feature maps whose channels may stand in any order, as operations of a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.backends.cpu_kernels.memory import Place
from posewire.backends.cpu_kernels.program import Flag, Kind, ProgramBuilder
from posewire.types import FloatArray

_LANES: Final = 8  # floats: outputs come in whole vectors of so many
_WIDEST_PANEL: Final = 10  # vectors

Order = npt.NDArray[np.intp]  # the network's channel of each stored one
Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A feature map (height, width, channels) in memory, or a range of the channels of a wider one.

    Stored channel s is the network's `order[s]`, still to be multiplied by the value at `scale` + s.
    """

    place: Place
    order: Order
    height: int
    width: int
    stride: int  # floats from pixel to pixel
    scale: Place | None = None

    @property
    def channels(self) -> int:
        """Stored channels."""
        return len(self.order)

    @property
    def pixels(self) -> int:
        """Of the whole map."""
        return self.height * self.width

    def part(self, first: int, channels: int, names: int = 0) -> "Map":
        """A range of the channels; `names` is what the network's count of them begins with."""
        order = self.order[first : first + channels] - names
        return replace(self, place=self.place.at(first), order=order, scale=self.scale.at(first) if self.scale else None)


class LayerBuilder:
    """Writes layers with a network's weights into a program."""

    def __init__(self, program: ProgramBuilder, state: Mapping[str, FloatArray]) -> None:
        self.program = program
        self._state = state

    def weight(self, key: str) -> Vector:
        """(O, I / groups, k, k) float32."""
        return self._state[f"{key}.weight"]

    def matrix(self, key: str) -> Matrix:
        """(O, I) float32 of a 1x1 convolution."""
        return self.weight(key)[:, :, 0, 0]

    def bias(self, key: str) -> Vector:
        """(O,) float32."""
        return self._state[f"{key}.bias"]

    def new(self, height: int, width: int, order: Order) -> Map:
        """A map without content."""
        return Map(self.program.buffer(height * width * whole(len(order))), order, height, width, len(order))

    def panels(self, matrix: Matrix) -> int:
        """Constants (O, I) as the kernels read them: outputs in whole vectors, in panels of (I, outputs)."""
        padded = np.zeros((whole(len(matrix)), matrix.shape[1]), np.float32)
        padded[: len(matrix)] = matrix
        vectors = padded.reshape(-1, _LANES, matrix.shape[1])
        parts = []
        while len(vectors):
            width = _panel_width(len(vectors))
            parts.append(vectors[:width].reshape(width * _LANES, -1).T.ravel())
            vectors = vectors[width:]
        return self.program.constant(np.concatenate(parts))

    def vector(self, values: Vector) -> int:
        """Constants (O,) in whole vectors."""
        return self.program.constant(np.pad(values, (0, whole(len(values)) - len(values))))

    def multiply(self, source: Map, matrix: Matrix, bias: Vector | None, out: Map, flags: Flag) -> None:
        """`out` = matrix (O, I of the stored channels) x source + bias; writes whole vectors of outputs."""
        inputs = matrix.shape[1]
        scratch = self.program.buffer(inputs * _WIDEST_PANEL * _LANES) if source.scale else None
        self.program.add(
            Kind.POINTWISE,
            *(source.place, source.stride, self.panels(matrix), source.pixels, inputs, whole(len(matrix)), out.place, out.stride),
            *(None if bias is None else self.vector(bias), int(flags), source.scale, scratch),
        )

    def pointwise(self, source: Map, key: str, out: Map, flags: Flag, factor: float = 1.0) -> Map:
        """A 1x1 convolution, `factor` times its output."""
        gain = np.float32(factor)
        self.multiply(source, gain * self.matrix(key)[np.ix_(out.order, source.order)], gain * self.bias(key)[out.order], out, flags)
        return out

    def depthwise(self, source: Map, key: str, stride: int) -> Map:
        """A depthwise 3x3 convolution."""
        out = self.new(source.height // stride, source.width // stride, source.order)
        taps = self.weight(key)[source.order, 0].reshape(-1, 9).T
        self.program.add(
            Kind.DEPTHWISE,
            *(source.place, source.stride, out.place, out.stride, source.height, source.width, source.channels, stride),
            *(self.program.constant(taps), self.vector(self.bias(key)[source.order]), source.scale, int(Flag.NONE)),
            self.program.buffer(source.width * source.stride),
        )
        return out

    def separable(self, source: Map, keys: Sequence[str], out: Map, stride: int, flags: Flag, factor: float = 1.0) -> Map:
        """A depthwise 3x3 and a 1x1 convolution of those two keys."""
        return self.pointwise(self.depthwise(source, keys[0], stride), keys[1], out, flags, factor)

    def reordered(self, source: Map, order: Order, coarse: Map | None, *, factor: int = 1, rectified: Map | None = None) -> Map:
        """`factor` times the map, its channels in another order, + `coarse` in that order, each pixel of it as 2x2."""
        out = self.new(source.height, source.width, order)
        picks = np.argsort(source.order)[order].astype(np.int32)
        # Room for the tables of AVX-512, which is more than the weights take without it.
        vectors = -(-source.channels // 16)
        scratch = self.program.buffer(32 * vectors * -(-vectors // 2))
        self.program.add(
            Kind.GATHER,
            *(source.place, self.program.constant(picks), source.scale, coarse.place if coarse else None),
            *(source.height, source.width, source.channels, out.place, rectified.place if rectified else None, factor, scratch),
        )
        return out

    def repeated(self, source: Map) -> Map:
        """Every pixel as 2x2."""
        out = self.new(2 * source.height, 2 * source.width, source.order)
        self.program.add(Kind.REPEAT, source.place, out.height, out.width, out.channels, out.place)
        return out

    def enlarged(self, source: Map, coarse: Map) -> Map:
        """The map + `coarse`, in the same order of channels, at twice its size: bilinear, corners on corners."""
        out = self.new(source.height, source.width, source.order)
        self.program.add(Kind.ENLARGE, source.place, coarse.place, out.height, out.width, out.channels, out.place)
        return out

    def scaled(self, source: Map) -> Map:
        """The map with weights of its channels to be multiplied by, all 1 for now."""
        scale = self.program.buffer(source.channels)
        self.program.add(Kind.FILL, scale, source.channels)
        return replace(source, scale=scale)


def whole(channels: int) -> int:
    """Channels in whole vectors."""
    return -(-channels // _LANES) * _LANES


def _panel_width(left: int) -> int:
    """Vectors of the next panel when `left` are left, as in pointwise.h."""
    if left % 10 == 0:
        return 10
    if left % 5 == 0:
        return 5
    if left > 8:
        return 8
    return 4 if left in (6, 7) else left
