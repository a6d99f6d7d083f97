"""Errors of joints, who is whose, and what scores mean."""

from pathlib import Path

import numpy as np
import pytest

from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.registry.score_curve import ScoreCurve
from posewire.tools.evaluate.annotations import Annotations
from posewire.tools.evaluate.joints import Joints, find_people
from posewire.tools.evaluate.reliability import Reliability, fit
from posewire.tools.evaluate.summary import score_run, summarise
from tests.evaluate.made import BOX, KEYPOINTS, annotation, answer, make_set

AREA = 110_000.0
NAMES = KEYPOINT_SETS["coco-17"].names
NOSE_SPREAD = 2 * 0.026  # twice COCO's sigma


@pytest.fixture
def data(tmp_path: Path) -> Annotations:
    return Annotations(make_set(tmp_path, [annotation(1, 1), annotation(2, 2)], people=2), tmp_path / "images")


def moved(by: float) -> list[float]:
    """Everything to the right by `by` times the square root of the person's area."""
    return [v + by * AREA**0.5 if i % 3 == 0 else v for i, v in enumerate(KEYPOINTS)]


def test_errors_are_in_units_of_the_person(data: Annotations) -> None:
    joints = Joints.of(find_people(data.images, [answer(1, moved(0.05), 0.7)]))
    assert len(joints.joint) == 11  # of the one who was found; what is not annotated does not count
    assert joints.error == pytest.approx(np.full(11, 0.05), rel=1e-4)
    assert joints.similarity[0] == pytest.approx(np.exp(-(0.05**2) / (2 * NOSE_SPREAD**2)), rel=1e-4)
    assert [NAMES[j] for j in joints.joint[~joints.seen]] == ["right_elbow"]
    assert set(joints.score.tolist()) == {np.float32(0.7)}


def test_right_is_a_matter_of_the_joint(data: Annotations) -> None:
    joints = Joints.of(find_people(data.images, [answer(1, moved(0.08))]))
    right = {NAMES[j] for j in joints.joint[joints.right]}
    assert right == {"left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"}


def test_people_are_paired_by_their_boxes(data: Annotations) -> None:
    aside = [300.0, 5.0, 200.0, 505.0]
    found = find_people(data.images, [answer(1, KEYPOINTS, bbox=aside), answer(1, moved(0.5), bbox=BOX), answer(2, KEYPOINTS, bbox=aside)])
    assert [round(one.oks, 3) for one in found] == [pytest.approx(0, abs=0.1), 0]
    assert [one.row is None for one in found] == [False, True]


def test_a_summary_tells_groups_apart(data: Annotations) -> None:
    rows = [answer(1, KEYPOINTS, 0.8), answer(2, moved(0.5), 0.6)]
    summary = summarise(data, rows, score_run(data, rows, "detector", flip_test=False))
    told = summary.as_json()
    assert (told["images"], told["people"], told["boxes_from"], told["found"]) == (3, 2, "detector", 1.0)
    assert told["boxes"]["AP"] == pytest.approx(1)
    assert told["joints"]["nose"]["right"] == 0.5
    assert (told["joints"]["all"]["joints"], told["joints"]["hidden"]["joints"], told["joints"]["left_knee"]) == (22, 2, {"joints": 0})
    assert (told["sizes"]["large"]["people"], told["sizes"]["medium"]) == (2, {"people": 0})
    groups = {name: group["people"] for name, group in told["occlusion"].items()}
    assert groups == {"under a third seen": 0, "a third to two": 2, "two thirds and more": 0}
    assert told["sizes"]["large"]["AP"] == told["keypoints"]["AP"] == pytest.approx(0.505, abs=0.001)
    assert told["calibration"]["ece"] == pytest.approx(0.5 * 0.2 + 0.5 * 0.6, abs=1e-5)


def test_a_group_is_scored_without_the_others(tmp_path: Path) -> None:
    far = annotation(2, 2, area=5000.0)
    data = Annotations(make_set(tmp_path, [annotation(1, 1), far], people=2), tmp_path / "images")
    rows = [answer(1, KEYPOINTS, 0.5), answer(2, moved(0.5), 0.9)]
    summary = summarise(data, rows, score_run(data, rows, "gt", flip_test=None))
    assert [summary.sizes[name]["AP"] for name in ("medium", "large")] == pytest.approx([0, 1])


def test_scores_that_mean_what_they_say() -> None:
    scores = np.repeat(np.array([0.25, 0.75], np.float32), 100)
    right = np.concatenate([np.arange(100) < 25, np.arange(100) < 75])
    honest = Reliability.of(scores, right)
    assert honest.ece == pytest.approx(0, abs=1e-6)
    assert len(honest.bins) == 2
    assert honest.brier == pytest.approx(0.25 * 0.75)
    boastful = Reliability.of(np.full(200, 1.0, np.float32), right)
    assert boastful.ece == pytest.approx(0.5)
    assert (boastful.bins[0].high, boastful.bins[0].right) == (1.0, 0.5)


def test_a_fitted_curve_undoes_what_was_done_to_scores() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.02, 0.98, 20_000)
    right = rng.uniform(size=20_000) < chance
    timid = 1 / (1 + np.exp(-(np.log(chance / (1 - chance)) - 1) / 2))
    curve = fit(timid.astype(np.float32), right)
    assert curve.scale == pytest.approx(2, abs=0.1)
    assert curve.shift == pytest.approx(1, abs=0.1)
    before, after = (Reliability.of(s, right).ece for s in (timid.astype(np.float32), curve(timid.astype(np.float32))))
    assert before > 0.1
    assert after < 0.02


def test_a_curve_is_finite_where_scores_never_err() -> None:
    curve = fit(np.array([0.1, 0.2, 0.8, 0.9], np.float32), np.array([False, False, True, True]))
    assert np.isfinite([curve.scale, curve.shift]).all()
    assert curve.scale > 1
    assert ScoreCurve(1, 0)(np.array([0, 0.5, 1], np.float32)) == pytest.approx([0, 0.5, 1], abs=1e-5)
