"""Runs side by side: every round runs each once, in a random order; a ratio is made within a round."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """One candidate against the first."""

    ms: float  # median
    ms_low: float  # first quartile
    ms_high: float  # third quartile
    ratio: float  # median of the pairwise ratios to the first; above 1: slower
    low: float  # their first quartile
    high: float  # their third quartile


def race(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time every candidate against the first.

    Args:
        candidates: by name, at least one.
        rounds: at least one.
    """
    for run in candidates.values():
        for _ in range(_WARM_UP):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name in random.sample(list(candidates), len(candidates)):
            started = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - started)
    first = np.array(next(iter(seconds.values())))
    return {name: _timing(np.array(times), first) for name, times in seconds.items()}


def _timing(times: np.ndarray[tuple[int], np.dtype[np.float64]], first: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Timing:
    low, ratio, high = np.percentile(times / first, [25, 50, 75])
    fast, middle, slow = np.percentile(times, [25, 50, 75]) * 1000
    return Timing(float(middle), float(fast), float(slow), float(ratio), float(low), float(high))
