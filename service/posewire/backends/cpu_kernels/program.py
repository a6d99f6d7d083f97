"""Programs for the kernels: operations, constants, and the size of the memory that they work in."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

import numpy as np
import numpy.typing as npt

from posewire.backends.cpu_kernels.memory import LINE, Memory, Place
from posewire.types import FloatArray

_NUMBERS: Final = 20  # int32 of an operation in run.cpp


class Kind(IntEnum):
    """The operations of run.cpp, in its order."""

    ENTRY = 0
    POINTWISE = 1
    DEPTHWISE = 2
    WEIGH = 3
    POOL = 4
    GATE = 5
    GATHER = 6
    ENLARGE = 7
    PLANES = 8
    REPEAT = 9
    FILL = 10


class Flag(IntFlag):
    """The step after an operation's output, as in vectors.h."""

    NONE = 0
    ACCUMULATE = 1
    RELU = 2
    SIGMOID = 4


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The program of the kernels: from an image (height, width, 3) uint8 RGB to the output of a network, float32."""

    operations: npt.NDArray[np.int32]  # (operations, 20)
    constants: FloatArray  # (floats,)
    memory: int  # floats
    height: int  # of the image, pixels
    width: int  # of the image, pixels
    shape: tuple[int, ...]  # of the output


class ProgramBuilder:
    """Collects operations and constants."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._operations: list[list[int | Place]] = []
        self._constants: list[FloatArray] = []
        self._size = 0

    def buffer(self, size: int) -> Place:
        """Memory for `size` floats, for as long as operations use it."""
        return self._memory.buffer(size)

    def constant(self, values: npt.ArrayLike) -> int:
        """Where constants lie: floats, or int32 as their bits."""
        array = np.asarray(values)
        flat = np.ascontiguousarray(array).view(np.float32) if array.dtype == np.int32 else array.astype(np.float32)
        padded = np.zeros(-(-flat.size // LINE) * LINE, np.float32)
        padded[: flat.size] = flat.ravel()
        self._constants.append(padded)
        self._size += len(padded)
        return self._size - len(padded)

    def add(self, kind: Kind, *numbers: int | Place | None) -> None:
        """An operation; its numbers are those of run.cpp, in its order, None where it takes no place."""
        operation = [int(kind), *(-1 if number is None else number for number in numbers)]
        for number in operation:
            if isinstance(number, Place):
                self._memory.use(number, len(self._operations))
        self._operations.append(operation)

    def program(self, height: int, width: int, shape: tuple[int, ...]) -> Program:
        """All of it; as `Program` has it."""
        starts, size = self._memory.laid_out()
        operations = np.zeros((len(self._operations), _NUMBERS), np.int32)
        for row, operation in zip(operations, self._operations, strict=True):
            row[: len(operation)] = [starts[n.buffer] + n.offset if isinstance(n, Place) else n for n in operation]
        return Program(operations, np.concatenate(self._constants), size, height, width, shape)
