"""A network on the kernels, in the place of an ONNX Runtime session."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from posewire.kernels.folded import Folded
from posewire.kernels.library import Kernels, load_kernels
from posewire.kernels.network import plan
from posewire.types import FloatArray, UInt8Array

_ALIGNMENT: Final = 64  # bytes: of a cache line; a vector across two costs twice
_STRIDE: Final = 4  # picture pixels of a heatmap pixel


class KernelSession:
    """Lite-HRNet on one core a run; `run` may be called from several threads at once.

    Args:
        folded: the network.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        mean: of the channels R, G, B, 0..255.
        std: of the channels R, G, B, 0..255.
        kernels: None: those that were built with Posewire.

    Raises:
        ModelError: the kernels cannot run here, or cannot run this network at this size.
    """

    def __init__(
        self, folded: Folded, height: int, width: int, mean: Sequence[float], std: Sequence[float], kernels: Kernels | None = None
    ) -> None:
        self._kernels = load_kernels() if kernels is None else kernels
        program = plan(folded, height, width, mean, std)
        self._constants = _aligned(len(program.constants))
        self._constants[:] = program.constants
        self._program = program
        # Memory of runs that have ended: a run takes one or makes one, so that there are as many as runs side by side.
        self._free: deque[FloatArray] = deque()
        self.provider = f"PosewireKernels ({self._kernels.level})"

    def run(self, pictures: Sequence[UInt8Array]) -> FloatArray:
        """Heatmaps (N, K, height / 4, width / 4) float32 of pictures (height, width, 3) uint8 RGB, one after the other.

        Raises:
            ValueError: a picture has another shape or dtype.
        """
        program = self._program
        heatmaps = np.empty((len(pictures), program.keypoints, program.height // _STRIDE, program.width // _STRIDE), np.float32)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(program.memory)
        for picture, out in zip(pictures, heatmaps, strict=True):
            if picture.shape != (program.height, program.width, 3) or picture.dtype != np.uint8:
                raise ValueError(f"a picture of {picture.shape} {picture.dtype}, not ({program.height}, {program.width}, 3) uint8")
            pixels = np.ascontiguousarray(picture)
            addresses = (array.ctypes.data for array in (self._constants, memory, pixels, out))
            self._kernels.run(program.operations.ctypes.data, len(program.operations), *addresses)
        self._free.append(memory)
        return heatmaps


def _aligned(size: int) -> FloatArray:
    """Zeros (size,) float32 that begin at a cache line."""
    room = np.zeros(size * 4 + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size * 4].view(np.float32)
