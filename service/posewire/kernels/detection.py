"""A detector in INT8 as a program: which map lies where, and what is done to it on the way.

Nothing is joined by copying where it can be avoided: what makes a map that is to be part of a wider one writes it there, in the wider
one's scale. A sum is the end of the convolution that gave its second half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from posewire.errors import ModelError
from posewire.kernels.files import Array
from posewire.kernels.joining import Joining
from posewire.kernels.memory import Place
from posewire.kernels.program import Kind, Program, ProgramBuilder
from posewire.kernels.quantized import BOX, Boxes, Convolution, Double, Entry, Join, Maxima, Quantized, Sum

LEVEL: Final = "vnni"  # of the kernels that have these operations

_PANEL: Final = 32  # outputs, as in bytes.h
_PARTS: Final = 4  # that several threads cut an operation into, as in run.cpp
_BYTES: Final = 4  # of a float, in which places are counted


def plan(
    network: Quantized, height: int, width: int, mean: Sequence[float], std: Sequence[float], colour: Literal["RGB", "BGR"] = "RGB"
) -> Program:
    """The program of a detector for pictures of `height` x `width` pixels.

    Args:
        network: the detector.
        height: of the picture, pixels.
        width: of the picture, pixels.
        mean: of the network's input channels, 0..255.
        std: of the network's input channels, 0..255.
        colour: order of the network's input channels; the program takes pictures in RGB.

    Raises:
        ModelError: the network cannot halve or join maps of these sizes.
    """
    return _Planner(network).plan(height, width, mean, std, colour)


@dataclass(frozen=True, slots=True)
class _Map:
    """A map (height, width, channels) of bytes with a border of one pixel, or a range of the channels of a wider one."""

    place: Place  # of the border's first pixel
    stride: int  # bytes from pixel to pixel
    height: int
    width: int
    channels: int
    scale: float

    @property
    def inner(self) -> Place:
        """The first pixel that is not border."""
        return self.place.at((self.width + 3) * self.stride // _BYTES)

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


class _Planner:
    def __init__(self, network: Quantized) -> None:
        self._network = network
        self._program = ProgramBuilder()
        self._joining = Joining(network)
        self._maps: dict[str, _Map] = {}

    def plan(self, height: int, width: int, mean: Sequence[float], std: Sequence[float], colour: str) -> Program:
        if height % 2 or width % 2:
            raise ModelError(f"a detector's picture must have an even height and width for Posewire's kernels, not {height} x {width}")
        cells = 0
        for step in self._network.steps:
            match step:
                case Entry():
                    self._entry(step, height, width, np.asarray(mean, np.float64), np.asarray(std, np.float64), colour)
                case Convolution():
                    self._convolution(step)
                case Sum():
                    if step.out not in self._maps:
                        raise ModelError(
                            f"{step.out} sums maps of which no convolution makes one for it alone; the kernels cannot run that"
                        )
                case Join():
                    self._join(step)
                case Maxima() | Double():
                    self._copied(step)
                case Boxes():
                    cells = self._boxes(step)
        return self._program.program(height, width, (cells, BOX), LEVEL)

    def _entry(self, step: Entry, height: int, width: int, mean: Array, std: Array, colour: str) -> None:
        """Normalised by the convolution itself; around the picture is the mean, which is zero then."""
        weight = self._network.state[f"{step.out}.weight"] / std[:, None, None]
        bias = self._network.state[f"{step.out}.bias"] - (weight * mean[:, None, None]).sum((1, 2, 3))
        if colour == "BGR":
            weight, mean = weight[:, ::-1], mean[::-1]
        out = self._new(step.out, height // 2, width // 2, len(bias), step.scale)
        constants = (self._program.constant(v) for v in (mean, weight.transpose(2, 3, 1, 0), bias, [1 / step.scale]))
        scratch = self._program.buffer(_PARTS * 9 * (width + 2))
        self._program.add(Kind.BYTE_ENTRY, height, width, *constants, out.inner, out.stride, scratch)

    def _convolution(self, step: Convolution) -> None:
        source, state = self._maps[step.source], self._network.state
        weight = state[f"{step.out}.weight"]
        outputs, side = len(weight), weight.shape[-1]
        if source.height % step.stride or source.width % step.stride:
            raise ModelError(f"{step.out} halves a map of {source.height} x {source.width} pixels; choose an input of another size")
        size = source.height // step.stride, source.width // step.stride
        total = self._joining.sums.get(step.out)
        residual = self._maps[total.sources[total.sources[0] == step.out]] if total else None
        name = total.out if total else step.out
        if residual and residual.size != size:
            raise ModelError(f"{name} sums maps of two sizes")
        own = self._joining.scales[name]
        out = self._new(name, *size, outputs, own)
        factors = (
            step.scale / own,
            residual.scale / own if residual else 0.0,
            0.0 if own == out.scale else own / out.scale,
        )
        constants = [_panels(weight), state[f"{step.out}.bias"], state[f"{step.out}.factor"], np.array(factors, np.float32)]
        self._program.add(
            Kind.CONVOLVE,
            *(source.inner, source.stride, *size, side, step.stride, source.channels, outputs),
            *map(self._program.constant, constants),
            *((residual.inner, residual.stride) if residual else (None, 0)),
            *(out.inner, out.stride),
        )

    def _join(self, step: Join) -> None:
        """What is not there yet is copied."""
        sizes = {self._maps[source].size for source in step.sources}
        if len(sizes) > 1:
            raise ModelError(f"{step.out} joins maps of {len(sizes)} sizes; choose an input of another size")
        whole = self._whole(step, *sizes.pop())
        at = 0
        for source in step.sources:
            part = self._maps[source]
            if self._joining.parts.get(source) is not step:
                self._copy(part, _Map(whole.place.at(at // _BYTES), whole.stride, *whole.size, part.channels, whole.scale))
            at += part.channels

    def _copied(self, step: Maxima | Double) -> None:
        source = self._maps[step.source]
        own = self._joining.scales[step.out]
        if isinstance(step, Double):
            self._copy(source, self._new(step.out, 2 * source.height, 2 * source.width, source.channels, own))
            return
        out = self._new(step.out, *source.size, source.channels, own)
        self._program.add(Kind.MAXIMA, source.inner, source.stride, *source.size, source.channels, out.inner, out.stride)

    def _copy(self, source: _Map, out: _Map) -> None:
        factor = self._program.constant([source.scale / out.scale])
        size = out.height // source.height
        self._program.add(Kind.COPY, source.inner, source.stride, *out.size, source.channels, size, factor, out.inner, out.stride)

    def _boxes(self, step: Boxes) -> int:
        """The number of cells."""
        at = 0
        for index, (name, stride) in enumerate(zip(step.sources, step.strides, strict=True)):
            source = self._maps[name]
            weight, bias = (self._network.state[f"{step.out}.{index}.{part}"] for part in ("weight", "bias"))
            constants = self._program.constant(weight * source.scale), self._program.constant(bias)
            self._program.add(Kind.BOXES, source.inner, source.stride, *source.size, source.channels, *constants, stride, at * BOX)
            at += source.height * source.width
        return at

    def _new(self, name: str, height: int, width: int, channels: int, scale: float) -> _Map:
        """Room for a map: its own, or a part of the map that it will be joined into, in that one's scale."""
        join = self._joining.parts.get(name)
        if join is None:
            self._maps[name] = self._room(name, height, width, channels, scale)
            return self._maps[name]
        whole = self._whole(join, height, width)
        at = sum(map(self._joining.channels, join.sources[: join.sources.index(name)]))
        self._maps[name] = _Map(whole.place.at(at // _BYTES), whole.stride, height, width, channels, whole.scale)
        return self._maps[name]

    def _whole(self, step: Join, height: int, width: int) -> _Map:
        if step.out not in self._maps:
            self._maps[step.out] = self._room(step.out, height, width, self._joining.channels(step.out), step.scale)
        if self._maps[step.out].size != (height, width):
            raise ModelError(f"{step.out} joins maps of two sizes; choose an input of another size")
        return self._maps[step.out]

    def _room(self, name: str, height: int, width: int, channels: int, scale: float) -> _Map:
        place = self._program.buffer((height + 2) * (width + 2) * channels // _BYTES)
        if name in self._joining.bordered:
            self._program.add(Kind.BORDER, place, channels, height, width)
        return _Map(place, channels, height, width, channels, scale)


def _panels(weight: Array) -> Array:
    """Weights (O, I, k, k) int8 as the kernels read them: panels (k, k, I / 4, O, 4) of 32 outputs, the last of 16 where that is left."""
    fours = weight.reshape(len(weight), -1, 4, *weight.shape[2:]).transpose(3, 4, 1, 0, 2)
    return np.concatenate([fours[..., at : at + _PANEL, :].ravel() for at in range(0, len(weight), _PANEL)])
