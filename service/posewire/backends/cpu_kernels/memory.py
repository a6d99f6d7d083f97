"""Buffers that live for a part of a program, side by side in one block of memory."""

from dataclasses import dataclass
from typing import Final

# Floats of a cache line, to which buffers are aligned.
LINE: Final = 16
# Floats behind every buffer: the last vector of a map may reach over its end.
_SLACK: Final = 32


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a buffer."""

    buffer: int
    offset: int = 0  # floats

    def at(self, offset: int) -> "Place":
        """The place so many floats on."""
        return Place(self.buffer, self.offset + offset)


@dataclass(slots=True)
class _Buffer:
    size: int  # floats
    first: int | None = None  # operation that uses it
    last: int = 0


class Memory:
    """Hands out buffers, is told of their uses, and finds a place for each at the end."""

    def __init__(self) -> None:
        self._buffers: list[_Buffer] = []

    def buffer(self, size: int) -> Place:
        """A new buffer of `size` floats."""
        self._buffers.append(_Buffer(-(-(size + _SLACK) // LINE) * LINE))
        return Place(len(self._buffers) - 1)

    def use(self, place: Place, operation: int) -> None:
        """Operation number `operation` reads or writes there; numbers never fall."""
        buffer = self._buffers[place.buffer]
        buffer.first = operation if buffer.first is None else buffer.first
        buffer.last = operation

    def laid_out(self) -> tuple[list[int], int]:
        """Where each buffer begins, and the size of all, in floats; those that are in use at one time do not overlap.

        Largest first, each at the first gap that takes it.
        """
        starts = [0] * len(self._buffers)
        placed: list[int] = []
        for index in sorted(range(len(starts)), key=lambda i: -self._buffers[i].size):
            taken = sorted((starts[i], starts[i] + self._buffers[i].size) for i in placed if self._meet(index, i))
            for begin, end in taken:
                if starts[index] + self._buffers[index].size <= begin:
                    break
                starts[index] = max(starts[index], end)
            placed.append(index)
        return starts, max((start + buffer.size for start, buffer in zip(starts, self._buffers, strict=True)), default=0)

    def _meet(self, one: int, other: int) -> bool:
        a, b = self._buffers[one], self._buffers[other]
        return a.first is not None and b.first is not None and a.first <= b.last and b.first <= a.last
