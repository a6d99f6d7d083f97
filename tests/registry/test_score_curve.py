import numpy as np
import pytest

from posewire.registry.score_curve import ScoreCurve


@pytest.mark.parametrize("curve", [ScoreCurve(1.0, 0.0), ScoreCurve(0.6, 0.9), ScoreCurve(2.5, -1.2)])
def test_a_curve_keeps_the_order_and_its_inverse_finds_the_score(curve: ScoreCurve) -> None:
    scores = np.linspace(0.02, 0.98, 500, dtype=np.float32)
    calibrated = curve(scores)
    assert (np.diff(calibrated) > 0).all()
    assert calibrated.min() > 0
    assert calibrated.max() < 1
    assert [curve.raw(float(c)) for c in calibrated[::50]] == pytest.approx(scores[::50].tolist(), abs=1e-4)


def test_scores_out_of_range_stay_finite() -> None:
    assert ScoreCurve(1.5, -0.2)(np.array([-0.1, 0, 1, 1.2], np.float32)).tolist() == pytest.approx([0, 0, 1, 1], abs=1e-3)


def test_nothing_lies_below_a_least_score_of_zero() -> None:
    assert ScoreCurve(1.5, 3).raw(0) == 0
