"""What a picture costs the process that it comes to, where models run in others."""

import time
from collections.abc import Callable

# Pictures from one measurement to the next.
_PICTURES = 256


class OwnShare:
    """CPU time of this process for a picture, measured while it serves.

    It is far from what it takes when nothing else runs: the models empty the caches, and every time that the event loop wakes up it
    fills them again. So pictures that go to a process together, and come back together, cost less; how much follows from this.

    Args:
        clock: seconds of CPU that this process has taken.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._pictures = 0
        self._then = clock()

    def count(self) -> float | None:
        """One picture more; now and then the seconds that each of late has taken."""
        self._pictures += 1
        if self._pictures < _PICTURES:
            return None
        then, self._then = self._then, self._clock()
        self._pictures = 0
        return (self._then - then) / _PICTURES
