"""Whether pictures come one at a time, so that a core that another picture would need is free."""

from collections.abc import Iterator
from contextlib import contextmanager

# So many in a row, each after the one before it was done: callers who come at random and overlap at times seldom manage it.
_IN_A_ROW = 8


class Solitude:
    """Watches pictures come and go."""

    def __init__(self) -> None:
        self._inside = 0
        self._in_a_row = 0

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """A picture's stay; whether it is likely to be undisturbed."""
        self._in_a_row = 0 if self._inside else self._in_a_row + 1
        self._inside += 1
        try:
            yield self._in_a_row > _IN_A_ROW
        finally:
            self._inside -= 1
