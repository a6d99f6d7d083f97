"""A network on the kernels, as an `InferenceSession`."""

from collections import deque
from typing import Final

import numpy as np

from posewire.backends.cpu_kernels.program import Program
from posewire.native.library import Kernels, load_kernels
from posewire.types import FloatArray, InputFormat, UInt8Array

_ALIGNMENT: Final = 64  # bytes: of a cache line; a vector across two costs twice


class KernelSession:
    """A network on the kernels; a run uses one core. `run` may be called from several threads at once.

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
        self.input_format: InputFormat = "uint8-nhwc"
        self.input_shape = (program.height, program.width, 3)
        self.output_shape = tuple(program.shape)

    def open_size(self, size: int) -> bool:  # noqa: ARG002 - the interface
        """Return False: the kernels run one image after the other."""
        return False

    def close_size(self, size: int) -> None:
        """Do nothing: no size is open."""

    def padding(self, items: int) -> int:  # noqa: ARG002 - the interface
        """Return 0: no run computes blank items."""
        return 0

    def open_exclusive(self) -> bool:
        """Return False: a run uses one core."""
        return False

    def run(self, batch: UInt8Array | FloatArray, *, exclusive: bool = False) -> FloatArray:  # noqa: ARG002 - the interface
        """Run the network on images (N, height, width, 3) uint8 RGB, one after the other.

        Returns:
            (N, ...) float32.

        Raises:
            ValueError: the batch has another shape or dtype.
        """
        program = self._program
        if batch.shape[1:] != (program.height, program.width, 3) or batch.dtype != np.uint8:
            raise ValueError(f"images {batch.shape} {batch.dtype}, not (N, {program.height}, {program.width}, 3) uint8")
        images = np.ascontiguousarray(batch)
        outputs = np.empty((len(batch), *program.shape), np.float32)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(program.memory)
        for image, out in zip(images, outputs, strict=True):
            addresses = (array.ctypes.data for array in (self._constants, memory, image, out))
            self._kernels.run(program.operations.ctypes.data, len(program.operations), *addresses)
        self._free.append(memory)
        return outputs


def _aligned(size: int) -> FloatArray:
    """Zeros (size,) float32 that begin at a cache line."""
    room = np.zeros(size * 4 + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size * 4].view(np.float32)
