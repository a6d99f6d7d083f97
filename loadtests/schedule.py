"""When requests are due: offsets in seconds from the start, ascending."""

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.float64]


def constant(rate: float, seconds: float) -> Offsets:
    """Evenly spaced arrivals, `rate` a second."""
    return np.arange(_count(rate, seconds)) / rate


def poisson(rate: float, seconds: float, seed: int) -> Offsets:
    """Arrivals of callers who know nothing of each other: a Poisson process of `rate` a second, cut at `seconds`."""
    expected = _count(rate, seconds)
    gaps = np.random.default_rng(seed).exponential(1 / rate, expected + 10 * int(expected**0.5) + 10)
    offsets = np.cumsum(gaps)
    return offsets[offsets < seconds]


def bursts(size: int, every: float, seconds: float) -> Offsets:
    """`size` arrivals at once, every `every` seconds.

    Raises:
        ValueError: a number is not positive.
    """
    if size < 1:
        raise ValueError(f"a burst of {size} is none")
    return np.repeat(np.arange(_count(1 / every if every > 0 else 0, seconds)) * every, size)


def _count(rate: float, seconds: float) -> int:
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"rate and seconds must be positive, not {rate:g} and {seconds:g}")
    return max(1, round(rate * seconds))
