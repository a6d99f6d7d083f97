"""A network on the kernels, in the place of an ONNX Runtime session."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from posewire.errors import ModelError
from posewire.kernels.library import Kernels, load_kernels
from posewire.kernels.program import Program
from posewire.types import FloatArray, UInt8Array

Team: TypeAlias = npt.NDArray[np.int64]

_TEAM: Final = 2  # numbers of a team in team.h
_ALIGNMENT: Final = 64  # bytes: of a cache line; a vector across two costs twice


class KernelSession:
    """A network on one core a run, unless it is alone; `run` may be called from several threads at once.

    Args:
        program: of the network.
        kernels: None: those that were built with Posewire.
        alone_threads: of a run that is alone, where the program's operations can be shared.

    Raises:
        ModelError: the kernels cannot run here, or cannot run this program.
    """

    def __init__(self, program: Program, kernels: Kernels | None = None, *, alone_threads: int = 1) -> None:
        self._kernels = load_kernels() if kernels is None else kernels
        if program.level not in (None, self._kernels.level):
            raise ModelError(f"Posewire's kernels run this network on processors of the level {program.level} only")
        self._constants = _aligned(len(program.constants))
        self._constants[:] = program.constants
        self._program = program
        # Memory of runs that have ended: a run takes one or makes one, so that there are as many as runs side by side.
        self._free: deque[FloatArray] = deque()
        self._helpers = alone_threads - 1 if program.shared else 0
        self._pool: ThreadPoolExecutor | None = None
        self.provider = f"PosewireKernels ({self._kernels.level})"

    def open(self, size: int) -> bool:  # noqa: ARG002 - as an ONNX Runtime session
        """Whether batches of `size` run as wholes: never, the kernels take one picture after the other."""
        return False

    def close(self, size: int) -> None:
        """Nothing is open."""

    @property
    def can_be_alone(self) -> bool:
        """Whether `open_alone` had threads to give."""
        return self._pool is not None

    def open_alone(self) -> None:
        """From now on run single pictures on more threads where the caller says that they are alone, if there are more to be had."""
        if self._helpers:
            self._pool = ThreadPoolExecutor(self._helpers, thread_name_prefix="kernels")

    def padding(self, items: int) -> int:  # noqa: ARG002 - as an ONNX Runtime session
        """Blank items that a run takes with it: none."""
        return 0

    def run(self, batch: UInt8Array | FloatArray, *, alone: bool = False) -> FloatArray:
        """What the network says of pictures (N, height, width, 3) uint8 RGB, one after the other: (N, …) float32.

        Args:
            batch: the pictures.
            alone: nothing else is likely to run meanwhile.

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
        shared = self._pool if alone and len(batch) == 1 else None
        for picture, out in zip(pictures, outputs, strict=True):
            team = None if shared is None else np.zeros(_TEAM, np.int64)
            if shared is not None:
                for _ in range(self._helpers):
                    shared.submit(self._run, memory, picture, out, team, helper=True)
            self._run(memory, picture, out, team)
        self._free.append(memory)
        return outputs

    def _run(self, memory: FloatArray, picture: UInt8Array, out: FloatArray, team: Team | None, *, helper: bool = False) -> None:
        """A thread's share of a run. A helper that comes when all is done finds nothing to do, and touches nothing but the team."""
        operations = self._program.operations
        addresses = (None if array is None else array.ctypes.data for array in (self._constants, memory, picture, out, team))
        self._kernels.run(operations.ctypes.data, len(operations), *addresses, helper)


def _aligned(size: int) -> FloatArray:
    """Zeros (size,) float32 that begin at a cache line."""
    room = np.zeros(size * 4 + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size * 4].view(np.float32)
