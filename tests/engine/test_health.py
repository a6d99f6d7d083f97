"""A model that keeps failing."""

import pytest

from posewire.engine.health import Health


def failing_after(runs: str) -> bool:
    """Whether a model fails whose runs ended so: "+" worked, "-" did not."""
    health = Health()
    for run in runs:
        health.note(worked=run == "+")
    return health.failing.is_set()


@pytest.mark.parametrize("runs", ["", "-", "----", "-+" * 3, "+-----+", "----+----", "+" * 11 + "-" * 4, ("+" * 9 + "-") * 3, "++-" * 20])
def test_a_failure_now_and_then_is_none_of_the_model(runs: str) -> None:
    assert not failing_after(runs)


@pytest.mark.parametrize("runs", ["-----", "+-----", "+" * 100 + "-----", "+-" * 10, "--+" * 7])
def test_failures_in_a_row_or_half_of_late_are(runs: str) -> None:
    assert failing_after(runs)


def test_a_model_that_works_again_is_forgiven() -> None:
    assert not failing_after("-" * 9 + "+")
    assert not failing_after("+-" * 10 + "+" * 3)
    assert failing_after("-" * 100 + "+")
