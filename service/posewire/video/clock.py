"""The times of frames, by a clock that neither goes back nor jumps."""

import statistics
from collections import deque

# A longer time between two frames, as far as it is unusual for the video, is no gap but a clock that was set: a recording was joined
# with another, or a recorder ran into its next day. A shorter one is a gap that somebody sees: a screen that did not change.
_MAX_GAP_S = 5.0
_UNUSUAL = 4.0  # times the usual distance

_MIN_DISTANCE_S = 1e-3
_RATES = (1 / 60, 240.0)  # frames per second that are believed
_DEFAULT_RATE = 25.0  # frames per second, if a file does not state it
_REMEMBERED = 25  # distances


class FrameClock:
    """Seconds since the first frame, from the times in the file.

    Where those go back, stand still, are missing or jump, the frame comes at the usual distance: the median of the last distances.

    Args:
        rate: frames per second, as the file states it; 0: not stated.
    """

    def __init__(self, rate: float) -> None:
        low, high = _RATES
        self._distances = deque([1 / (rate if low <= rate <= high else _DEFAULT_RATE)], maxlen=_REMEMBERED)
        self._last: float | None = None  # the last frame's time in the file, seconds
        self._frames = 0
        self.seconds = 0.0  # of the last frame

    @property
    def usual_distance(self) -> float:
        """Seconds from one frame to the next."""
        return statistics.median_low(self._distances)

    def tick(self, at: float | None) -> float:
        """Return the seconds from the first frame to the next one.

        Args:
            at: its time in the file, seconds; None: not stated.
        """
        if self._frames:
            self.seconds += self._distance(at)
        self._frames += 1
        if at is not None:
            self._last = at
        return self.seconds

    def _distance(self, at: float | None) -> float:
        usual = self.usual_distance
        gap = 0.0 if at is None or self._last is None else at - self._last
        if at is None and self._last is not None:
            self._last += usual  # so that the next time that is stated continues from here
        if gap > 0:
            self._distances.append(gap)  # also a long one: where every gap is long, it is the usual distance
        return max(gap, _MIN_DISTANCE_S) if 0 < gap <= max(_MAX_GAP_S, _UNUSUAL * usual) else usual
