"""A network on the kernels, in the place of an ONNX Runtime session."""

from collections import deque
from typing import Final

import numpy as np

from posewire.backends.cpu_kernels.program import Program
from posewire.native.library import Kernels, load_kernels
from posewire.types import FloatArray, UInt8Array

_ALIGNMENT: Final = 64  # bytes: of a cache line; a vector across two costs twice


class KernelSession:
    """A network on one core a run; `run` may be called from several threads at once.

    Args:
        program: of the network.
        kernels: None: those that were built with Posewire.

    Raises:
        ModelError: the kernels cannot run here.
    """

    def __init__(self, program: Program, kernels: Kernels | None = None) -> None:
        self._kernels = load_kernels() if kernels is None else kernels
        self._constants = _aligned(len(program.constants))
        self._constants[:] = program.constants
        self._program = program
        # Memory of runs that have ended: a run takes one or makes one, so that there are as many as runs side by side.
        self._free: deque[FloatArray] = deque()
        self.provider = f"PosewireKernels ({self._kernels.level})"

    def open(self, size: int) -> bool:  # noqa: ARG002 - as an ONNX Runtime session
        """Whether batches of `size` run as wholes: never, the kernels take one picture after the other."""
        return False

    def close(self, size: int) -> None:
        """Nothing is open."""

    def padding(self, items: int) -> int:  # noqa: ARG002 - as an ONNX Runtime session
        """Blank items that a run takes with it: none."""
        return 0

    def run(self, batch: UInt8Array | FloatArray) -> FloatArray:
        """What the network says of pictures (N, height, width, 3) uint8 RGB, one after the other: (N, …) float32.

        Raises:
            ValueError: the batch has another shape or dtype.
        """
        program = self._program
        if batch.shape[1:] != (program.height, program.width, 3) or batch.dtype != np.uint8:
            raise ValueError(f"pictures {batch.shape} {batch.dtype}, not (N, {program.height}, {program.width}, 3) uint8")
        pictures = np.ascontiguousarray(batch)
        outputs = np.empty((len(batch), *program.shape), np.float32)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(program.memory)
        for picture, out in zip(pictures, outputs, strict=True):
            addresses = (array.ctypes.data for array in (self._constants, memory, picture, out))
            self._kernels.run(program.operations.ctypes.data, len(program.operations), *addresses)
        self._free.append(memory)
        return outputs


def _aligned(size: int) -> FloatArray:
    """Zeros (size,) float32 that begin at a cache line."""
    room = np.zeros(size * 4 + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size * 4].view(np.float32)
