"""Who is next: a queue that is fair to callers and knows classes of work."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from posewire.types import Priority

T = TypeVar("T")

# Of so many items in a row, while both classes wait, at least one is bulk's.
_BULK_EVERY = 4

# Items that a caller may have in one turn. Most pictures show fewer people: they are served whole, first come first
# served, which is best for all of them; a crowd gives way after so many.
TURN = 4


class Line(Generic[T]):
    """What one caller has waiting."""

    __slots__ = ("items", "priority", "served")

    def __init__(self, items: Iterable[T], priority: Priority) -> None:
        self.items = deque(items)
        self.priority = priority
        self.served = 0  # items of its present turn


class FairQueue(Generic[T]):
    """Callers take turns, a few items each; live streams go ahead of bulk, which keeps a share."""

    def __init__(self) -> None:
        self._lines: dict[Priority, OrderedDict[Line[T], None]] = {priority: OrderedDict() for priority in Priority}
        self._size = 0
        self._since_bulk = 0  # items of streams, one after the other, for which bulk had to wait

    def __len__(self) -> int:
        """Items that wait."""
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order that means anything."""
        return (item for lines in self._lines.values() for line in lines for item in line.items)

    def push(self, items: Iterable[T], priority: Priority) -> Line[T]:
        """Stand in line with all items of one caller, at least one."""
        line = Line(items, priority)
        self._lines[priority][line] = None
        self._size += len(line.items)
        return line

    def leave(self, line: Line[T]) -> None:
        """Take out what a caller still has waiting."""
        self._size -= len(line.items)
        line.items.clear()
        self._lines[line.priority].pop(line, None)

    def pop(self) -> T:
        """The next item.

        Raises:
            IndexError: nothing waits.
        """
        lines = self._next_class()
        line = next(iter(lines), None)
        if line is None:
            raise IndexError("the queue is empty")
        item = line.items.popleft()
        self._size -= 1
        line.served += 1
        if not line.items:
            del lines[line]
        elif line.served == TURN:
            line.served = 0
            lines.move_to_end(line)
        return item

    def _next_class(self) -> OrderedDict[Line[T], None]:
        streams, bulk = self._lines[Priority.STREAM], self._lines[Priority.BULK]
        if streams and (not bulk or self._since_bulk < _BULK_EVERY - 1):
            self._since_bulk = self._since_bulk + 1 if bulk else 0
            return streams
        self._since_bulk = 0
        return bulk
