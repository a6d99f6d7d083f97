"""The door: how many pictures may be in the service at a time."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from posewire.errors import Overloaded
from posewire.telemetry.metrics import Metrics

# The drain rate is that of the last seconds: what was before says little of now.
_WINDOW_S = 10.0
_LONGEST_RETRY_S = 60


class Admission:
    """Counts the pictures in flight and turns away what is over the limit, with a time after which to try again."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self.in_flight = 0
        self._metrics = metrics
        self._done: deque[float] = deque(maxlen=4096)  # when pictures left, seconds, monotonic

    @property
    def full(self) -> bool:
        """Whether not even one more picture fits."""
        return self.in_flight >= self.limit

    def refusal(self, pictures: int) -> Overloaded:
        """The error for who brings `pictures` pictures too many; carries the seconds after which a place should be free."""
        return Overloaded(
            f"{self.in_flight} of {self.limit} pictures are in flight, {pictures} more do not fit; try again later",
            retry_after_s=self._retry_after(pictures),
        )

    def enter(self, pictures: int) -> AbstractContextManager[None]:
        """Hold places for `pictures` pictures, all or none, while a block runs.

        Raises:
            Overloaded: the service is full; where the block is entered.
        """
        return self._hold(pictures) if pictures else nullcontext()

    @contextmanager
    def _hold(self, pictures: int) -> Iterator[None]:
        self.take(pictures)
        try:
            yield
        finally:
            self.give_back(pictures)

    def take(self, pictures: int) -> None:
        """Hold places for `pictures` pictures until they are given back.

        Raises:
            Overloaded: the service is full; none is held.
        """
        if self.in_flight + pictures > self.limit:
            raise self.refusal(pictures)
        self.in_flight += pictures
        self._metrics.change_pictures_in_flight(pictures)

    def give_back(self, pictures: int) -> None:
        """The pictures that places were held for have left."""
        self.in_flight -= pictures
        self._metrics.change_pictures_in_flight(-pictures)
        self._done.extend([time.monotonic()] * pictures)

    def _retry_after(self, pictures: int) -> int:
        """Whole seconds until the measured drain rate has made room."""
        now = time.monotonic()
        while self._done and self._done[0] < now - _WINDOW_S:
            self._done.popleft()
        if not self._done:
            return 1
        rate = len(self._done) / max(now - self._done[0], 0.1)
        return min(_LONGEST_RETRY_S, max(1, math.ceil((self.in_flight + pictures - self.limit) / rate)))
