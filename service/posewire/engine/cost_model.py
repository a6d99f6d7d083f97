"""The cost of a model run of each size here, and the batch sizes and windows that follow from it.

On one machine a batch of 16 costs little more than a single item, on another more than 16 times as much, and it changes
with the model's input size. So nothing is assumed: every size is measured at warm-up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

# The gain of an item each time that the run doubles must be this large: less is noise, or not worth the wait.
WORTH = 0.05

# A first item may wait this fraction of a lone item's run for others.
_PATIENCE = 0.1


def buckets(max_batch: int) -> tuple[int, ...]:
    """The sizes that are run: powers of two below `max_batch`, and `max_batch` itself."""
    return (*(1 << n for n in range((max_batch - 1).bit_length())), max_batch)


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one run of each size, with every worker busy; and the blank items with which a number of items is filled up."""

    seconds: Mapping[int, float]
    padding: Mapping[int, int] = field(default_factory=dict)  # of numbers that are filled up
    whole: tuple[int, ...] = ()  # sizes above 1 that are faster in one piece than in parts
    _plans: tuple[tuple[float, int], ...] = field(init=False, repr=False)  # for n items: the cost in all, the size of the first run

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plans", self._plan(2 * max(self.seconds)))

    @classmethod
    def unknown(cls) -> Self:
        """Nothing is measured yet: items run alone."""
        return cls({1: 0.0})

    def _plan(self, max_items: int) -> tuple[tuple[float, int], ...]:
        """For 0 to `max_items` items: the lowest cost, and the largest run of that plan. Items that arrive meanwhile join the rest."""
        costs = {size: seconds * (1 + WORTH * math.log2(size)) for size, seconds in self.seconds.items()}
        plans = [(0.0, 0)]
        for items in range(1, max_items + 1):
            choices = [(cost + plans[max(0, items - size)][0], size) for size, cost in costs.items()]
            lowest = min(choices)[0]
            plans.append(max((c for c in choices if math.isclose(c[0], lowest)), key=lambda choice: choice[1]))
        return tuple(plans)

    @property
    def full(self) -> int:
        """The size beyond which nothing is gained."""
        return self._plans[-1][1]

    def time(self, items: int) -> float:
        """About the seconds that one worker needs for so many items."""
        last = len(self._plans) - 1
        return self._plans[items][0] if items <= last else self._plans[last][0] * items / last

    def take(self, waiting: int, workers: int) -> int:
        """Items of the next run.

        The number of workers that share what waits minimises latency times total cost.

        Args:
            waiting: items in the queue, at least 1.
            workers: free or soon to be, at least 1.
        """
        if waiting == 1:
            return 1
        count = min(range(1, workers + 1), key=lambda count: self.time(math.ceil(waiting / count)) * math.sqrt(count))
        share = math.ceil(waiting / count)
        return min(share, self._plans[share][1] if share < len(self._plans) else self.full)

    def window(self, gap: float) -> float:
        """Batch window: seconds that a first item waits for others.

        A pair saves time over two single runs. The window is as long as that, but bounded by what a lone item can bear, and 0 if
        nobody is likely to arrive within it.

        Args:
            gap: seconds between the arrivals of late.
        """
        if 2 not in self.seconds:
            return 0.0
        window = min(2 * self.seconds[1] - self.seconds[2], _PATIENCE * self.seconds[1])
        return window if gap <= window else 0.0
