"""Figures drawn from what became of requests."""

import numpy as np
import pytest

from loadtests.outcomes import LOST, Outcomes, percentiles_ms, ratio, summarise
from loadtests.overload import memory_growth


def test_percentiles_are_values_that_were_seen() -> None:
    seconds = np.arange(1, 1001) / 1000
    assert percentiles_ms(seconds) == {"p50": 501, "p90": 901, "p99": 991, "p99.9": 1000, "max": 1000}
    assert percentiles_ms([0.25]) == dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 250)
    assert percentiles_ms([]) == dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"))


@pytest.fixture
def outcomes() -> Outcomes:
    found = Outcomes()
    found.add(due=0.0, sent=0.0, ended=0.1, status=200)
    found.add(due=1.0, sent=1.5, ended=3.2, status=200)  # sent late: its clock ran all the same
    found.add(due=2.0, sent=2.0, ended=2.001, status=503)
    found.add(due=3.0, sent=3.0, ended=4.0, status=504)
    found.add(due=4.0, sent=4.0, ended=5.0, status=LOST)
    return found


def test_latency_counts_from_when_a_request_was_due(outcomes: Outcomes) -> None:
    assert outcomes.latencies(200).tolist() == pytest.approx([0.1, 2.2])
    assert summarise(outcomes, 5, 2)["send_lag_ms"]["max"] == 500


def test_goodput_is_what_came_within_the_deadline(outcomes: Outcomes) -> None:
    summary = summarise(outcomes, seconds=5, deadline_s=2)
    assert summary["requests"] == 5
    assert summary["throughput"] == pytest.approx(4 / 5)
    assert summary["goodput"] == pytest.approx(1 / 5)
    assert summary["statuses"] == {"200": 2, "503": 1, "504": 1}
    assert (summary["lost"], summary["rejected"]) == (1, 1)


def test_accepted_is_what_was_not_turned_away(outcomes: Outcomes) -> None:
    summary = summarise(outcomes, seconds=5, deadline_s=2)
    assert summary["accepted_ms"]["max"] == 2200
    assert summary["rejected_ms"]["max"] == 1
    only_rejected = outcomes.due_between(2, 3)
    assert only_rejected.status == [503]
    assert summarise(only_rejected, 1, 2)["accepted_ms"]["p99"] is None


def test_a_ratio_is_made_of_pairs() -> None:
    found = ratio([10, 20, 60], [10, 10, 20])
    assert found["pairs"] == [1, 2, 3]
    assert (found["low"], found["median"], found["high"]) == (1.5, 2, 2.5)


def test_memory_growth_does_not_see_a_lone_spike() -> None:
    steady = [100.0] * 200
    steady[120] = 900.0
    assert memory_growth(steady, start=10, end=60) == 0
    assert memory_growth([*[100.0] * 100, *[110.0] * 100], start=10, end=99) == pytest.approx(0.1)
