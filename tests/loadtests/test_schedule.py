"""When requests are due."""

import numpy as np
import pytest

from loadtests import schedule


def test_constant_arrivals_are_evenly_spaced() -> None:
    offsets = schedule.constant(20, 3)
    assert len(offsets) == 60
    assert offsets[0] == 0
    assert np.allclose(np.diff(offsets), 0.05)


def test_poisson_arrivals_have_the_rate_and_no_memory() -> None:
    offsets = schedule.poisson(500, 60, seed=1)
    gaps = np.diff(offsets)
    assert len(offsets) == pytest.approx(30_000, rel=0.03)
    assert (gaps > 0).all()
    assert offsets[-1] < 60
    # Exponential gaps: as wide as their mean, and one does not tell of the next.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_poisson_arrivals_are_the_same_for_a_seed_only() -> None:
    assert (schedule.poisson(10, 5, seed=1) == schedule.poisson(10, 5, seed=1)).all()
    assert len(set(schedule.poisson(10, 5, seed=1)) & set(schedule.poisson(10, 5, seed=2))) == 0


def test_a_burst_is_due_at_once() -> None:
    assert schedule.bursts(3, 2.0, 4).tolist() == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-1, 1)])
def test_nonsense_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        schedule.constant(rate, seconds)
    with pytest.raises(ValueError, match="positive"):
        schedule.poisson(rate, seconds, seed=0)


@pytest.mark.parametrize(("size", "every"), [(0, 1.0), (1, 0.0)])
def test_a_burst_of_nothing_is_refused(size: int, every: float) -> None:
    with pytest.raises(ValueError, match=r"burst|positive"):
        schedule.bursts(size, every, 1)
