"""A state that must hold for a while before it counts, so that jitter makes no events."""

from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(slots=True)
class Held(Generic[S]):
    """The last state that has held long enough, and the one that may follow."""

    state: S  # what counts
    since_s: float  # when it was first seen
    _next: S | None = None
    _next_since_s: float = 0.0

    def see(self, seen: S | None, time_s: float, hold_s: float) -> bool:
        """Take what one frame shows; return whether the state has changed.

        Args:
            seen: None: the frame does not show it, and nothing changes.
            time_s: of the frame.
            hold_s: how long a new state must be seen, without another between.
        """
        if seen is None:
            return False
        if seen == self.state:
            self._next = None
            return False
        if seen != self._next:
            self._next, self._next_since_s = seen, time_s
        if time_s - self._next_since_s < hold_s:
            return False
        self.state, self.since_s, self._next = seen, self._next_since_s, None
        return True
