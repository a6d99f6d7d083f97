"""The outcomes of requests, and figures of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# In place of an HTTP status: no answer, for the connection broke or the generator's patience ended.
LOST = 0
REJECTED = (429, 503)

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(slots=True)
class Outcomes:
    """One entry a request, in the order in which they ended; times in seconds of the generator's clock."""

    due: list[float] = field(default_factory=list)  # when it was to be sent: latency counts from here
    sent: list[float] = field(default_factory=list)  # when the generator got to it: the rest is connecting, writing and waiting
    ended: list[float] = field(default_factory=list)  # when the answer's last byte was there
    status: list[int] = field(default_factory=list)  # HTTP status, or LOST

    def add(self, due: float, sent: float, ended: float, status: int) -> None:
        """Note one request."""
        self.due.append(due)
        self.sent.append(sent)
        self.ended.append(ended)
        self.status.append(status)

    def latencies(self, *statuses: int) -> FloatArray:
        """Seconds from due to answered, of the requests with one of these statuses."""
        chosen = np.isin(self.status, statuses)
        return (np.array(self.ended, np.float64) - np.array(self.due, np.float64))[chosen]

    def due_between(self, start: float, end: float) -> "Outcomes":
        """The requests that were due in [start, end)."""
        rows = zip(self.due, self.sent, self.ended, self.status, strict=True)
        part = Outcomes()
        for row in rows:
            if start <= row[0] < end:
                part.add(*row)
        return part


def percentiles_ms(seconds: FloatArray | Sequence[float]) -> dict[str, float | None]:
    """p50, p90, p99, p99.9 and max in milliseconds, each a value that was really seen; None where there is none."""
    if not len(seconds):
        return dict.fromkeys((*PERCENTILES, "max"))
    values = np.percentile(seconds, [*PERCENTILES.values(), 100], method="higher") * 1000
    return {name: round(float(v), 2) for name, v in zip((*PERCENTILES, "max"), values, strict=True)}


def summarise(outcomes: Outcomes, seconds: float, deadline_s: float) -> dict[str, Any]:
    """The figures of a stretch of `seconds`.

    Goodput counts answers of status 200 that came within the deadline; `accepted` is everything that was admitted,
    whatever its answer was.
    """
    status = np.array(outcomes.status, int)
    good = outcomes.latencies(200)
    accepted = outcomes.latencies(*(set(status.tolist()) - set(REJECTED)))
    lag = np.array(outcomes.sent) - np.array(outcomes.due)
    return {
        "requests": len(status),
        "seconds": round(seconds, 2),
        "throughput": round(int((status != LOST).sum()) / seconds, 2),
        "goodput": round(int((good <= deadline_s).sum()) / seconds, 2),
        "statuses": {str(s): int((status == s).sum()) for s in sorted(set(status.tolist())) if s != LOST},
        "lost": int((status == LOST).sum()),
        "rejected": int(np.isin(status, REJECTED).sum()),
        "ok_ms": percentiles_ms(good),
        "accepted_ms": percentiles_ms(accepted),
        "rejected_ms": percentiles_ms(outcomes.latencies(*REJECTED)),
        "send_lag_ms": percentiles_ms(lag),
    }


def ratio(own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of the pairwise ratios own / other; a pair was measured side by side."""
    pairs = np.array(own, float) / np.array(other, float)
    low, median, high = np.percentile(pairs, [25, 50, 75])
    return {
        "median": round(float(median), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "pairs": [round(float(p), 4) for p in pairs],
    }
