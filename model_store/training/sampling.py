"""How often which set is drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_store.training.data.known import is_for_research
from posewire.errors import PosewireError


def without_research(wanted: Mapping[str, float], sources: Sequence[str]) -> dict[str, float]:
    """How often sets are drawn from, with 0 for those that are for research only."""
    return {**wanted, **{name: 0.0 for name in sources if is_for_research(name)}}


def chances(
    source: np.ndarray[Any, np.dtype[np.int64]], sources: Sequence[str], wanted: Mapping[str, float]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The chance of each record, (n,), to be drawn.

    Args:
        source: (n,) indices into `sources`.
        sources: names of the sets.
        wanted: how often a set's records are drawn, against 1 for a set that is not named; sets that are not there do no harm.

    Raises:
        PosewireError: nothing could be drawn.
    """
    weights = np.array([wanted.get(name, 1.0) for name in sources], np.float64)[source]
    if not weights.sum() > 0:
        raise PosewireError(f"the recipe gives all sources that are there the weight 0: {', '.join(sources)}")
    return np.asarray(weights / weights.sum())
