"""What a model run of each size costs here, and what follows from it: how many items to run together, and what to wait for.

On one machine a batch of 16 costs little more than a single item, on another more than 16 times as much, and it changes
with the model's input size. So nothing is assumed: every size is measured at warm-up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

# What an item must gain each time that the run doubles: less is noise, or not worth the wait of those who share the run.
WORTH = 0.05

# Of a lone item's run: as much longer may it take when it waits for company that does not come.
_PATIENCE = 0.1


def buckets(most: int) -> tuple[int, ...]:
    """The sizes that are run: powers of two below `most`, and `most` itself."""
    return (*(1 << n for n in range((most - 1).bit_length())), most)


@dataclass(frozen=True, slots=True)
class CostTable:
    """Seconds of one run of each size, with every worker busy; and the blank items with which a number of items is filled up."""

    seconds: Mapping[int, float]
    padding: Mapping[int, int] = field(default_factory=dict)  # of numbers that are filled up
    _plans: tuple[tuple[float, int], ...] = field(init=False, repr=False)  # for n items: the cost in all, the size of the first run

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plans", self._plan(2 * max(self.seconds)))

    @classmethod
    def unknown(cls) -> Self:
        """Nothing is measured yet: items run alone."""
        return cls({1: 0.0})

    def more(self, *, an_item: float = 0.0, a_run: float = 0.0) -> "CostTable":
        """The same with so many seconds more for every item, and for every run."""
        return CostTable({size: seconds + size * an_item + a_run for size, seconds in self.seconds.items()}, self.padding)

    def _plan(self, most: int) -> tuple[tuple[float, int], ...]:
        """For 0 to `most` items: the least cost, and the largest run of that plan: what comes meanwhile joins the rest."""
        costs = {size: seconds * (1 + WORTH * math.log2(size)) for size, seconds in self.seconds.items()}
        plans = [(0.0, 0)]
        for items in range(1, most + 1):
            choices = [(cost + plans[max(0, items - size)][0], size) for size, cost in costs.items()]
            least = min(choices)[0]
            plans.append(max((c for c in choices if math.isclose(c[0], least)), key=lambda choice: choice[1]))
        return tuple(plans)

    @property
    def full(self) -> int:
        """The size beyond which nothing is gained."""
        return self._plans[-1][1]

    def time(self, items: int) -> float:
        """Seconds in which one worker is done with so many items, about."""
        most = len(self._plans) - 1
        return self._plans[items][0] if items <= most else self._plans[most][0] * items / most

    def take(self, waiting: int, workers: int) -> int:
        """Items of the next run.

        As many workers share what waits as make the product of when it is done and of what it costs all of them least.

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
        """Seconds that a first item waits for company.

        A pair saves what it costs less than two. As long may it be worth to wait, but no longer than a lone item
        can bear, and not at all where nobody is likely to come in that time.

        Args:
            gap: seconds between the arrivals of late.
        """
        if 2 not in self.seconds:
            return 0.0
        window = min(2 * self.seconds[1] - self.seconds[2], _PATIENCE * self.seconds[1])
        return window if gap <= window else 0.0
