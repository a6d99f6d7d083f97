"""Which fault happens when, by a seed."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Fault: TypeAlias = Literal["source", "broker", "sigterm", "kill -9"]

QUIET_S = 20.0  # at the start and at the end


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault."""

    at_s: float  # from the start
    fault: Fault
    away_s: float  # how long source or broker stay away


def plan(seconds: float, seed: int) -> list[Planned]:
    """Return the faults of a soak, evenly spread: in 30 minutes the source is killed ten times, the broker five times; two restarts."""
    random = np.random.default_rng(seed)
    sources, brokers = max(2, round(seconds / 180)), max(1, round(seconds / 360))
    source: Fault = "source"
    broker: Fault = "broker"
    faults = [source] * sources + [broker] * brokers
    random.shuffle(faults)
    # Thirds of the soak begin with a restart, so that each life of the service is long enough to see whether its memory grows.
    faults.insert(round(len(faults) / 3), "sigterm")
    faults.insert(round(2 * len(faults) / 3), "kill -9")
    slot = (seconds - 2 * QUIET_S) / len(faults)
    longest = min(60.0, slot / 3)
    starts = [QUIET_S + slot * (i + random.uniform(0, 0.3)) for i in range(len(faults))]
    return [Planned(at, fault, float(random.uniform(0.2, 1.0)) * longest) for at, fault in zip(starts, faults, strict=True)]
