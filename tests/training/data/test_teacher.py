from dataclasses import replace

import numpy as np
import pytest

from model_store.training.data.records import Person, Scene, swap_sides
from model_store.training.data.teacher import View, ask, check, label
from posewire.types import FloatArray, UInt8Array
from tests.training.data.stick import stick

MADE = stick(5)


class Knowing:
    """A teacher that knows where the person is, in an image as it is or mirrored."""

    def __init__(self, score: float = 0.9, noise: float = 0.0) -> None:
        self.score = score
        self.noise = noise
        self.asked: list[tuple[bool, FloatArray]] = []

    def __call__(self, pixels: UInt8Array, box_xywh: FloatArray) -> tuple[FloatArray, FloatArray]:
        mirrored = not np.array_equal(pixels, MADE.pixels)
        self.asked.append((mirrored, box_xywh))
        points = MADE.keypoints_xy + (self.noise if mirrored else -self.noise)
        if mirrored:
            points = swap_sides(np.stack([pixels.shape[1] - 1 - points[:, 0], points[:, 1]], -1))
        return points.astype(np.float32), np.full(17, self.score, np.float32)


def person(**changes: object) -> Person:
    made = Person(MADE.pixels, MADE.box_xywh, MADE.keypoints_xy, np.ones(17, np.float32), "s", "s/1")
    return replace(made, **changes)  # type: ignore[arg-type]


def test_views_agree_on_an_image_and_its_mirror_image() -> None:
    teacher = Knowing()
    opinion = ask(teacher, MADE.pixels, MADE.box_xywh, [View(1.0), View(1.2, mirrored=True)])
    np.testing.assert_allclose(opinion.keypoints_xy, MADE.keypoints_xy, atol=1e-3)
    assert opinion.weights.tolist() == [1] * 17
    assert opinion.score == pytest.approx(0.9)
    (upright, box), (mirrored, wider) = teacher.asked
    assert (upright, mirrored) == (False, True)
    np.testing.assert_allclose(box, MADE.box_xywh, atol=1e-3)
    np.testing.assert_allclose(wider[2:], 1.2 * MADE.box_xywh[2:], atol=1e-3)
    centre = wider[:2] + wider[2:] / 2
    np.testing.assert_allclose([MADE.pixels.shape[1] - centre[0], centre[1]], MADE.box_xywh[:2] + MADE.box_xywh[2:] / 2, atol=1e-3)


@pytest.mark.parametrize(("score", "noise", "low", "high"), [(0.9, 0, 1, 1), (0.25, 0, 0.3, 0.6), (0.1, 0, 0, 0), (0.9, 10.0, 0.05, 0.5)])
def test_doubt_and_disagreement_cost_weight(score: float, noise: float, low: float, high: float) -> None:
    weights = ask(Knowing(score, noise), MADE.pixels, MADE.box_xywh).weights
    assert (low <= weights).all()
    assert (weights <= high).all()


def test_an_image_with_boxes_is_labelled() -> None:
    scene = Scene(MADE.pixels, MADE.box_xywh[None], "s", "s/1")
    (found,) = label(Knowing(), scene)
    np.testing.assert_allclose(found.keypoints_xy, MADE.keypoints_xy, atol=1e-3)
    assert label(Knowing(score=0.1), scene) == []


def test_mixed_up_sides_are_changed_back() -> None:
    body = np.arange(17)[:, None] >= 5
    mixed_up = person(keypoints_xy=np.where(body, swap_sides(MADE.keypoints_xy), MADE.keypoints_xy))
    np.testing.assert_allclose(check(Knowing(), mixed_up).keypoints_xy, MADE.keypoints_xy, atol=1e-3)
    # Not on the word of a teacher that is not sure itself.
    assert np.abs(check(Knowing(score=0.15), mixed_up).keypoints_xy - mixed_up.keypoints_xy).max() < 1e-3


def test_right_sides_stay() -> None:
    checked = check(Knowing(), person())
    np.testing.assert_array_equal(checked.keypoints_xy, MADE.keypoints_xy)
    assert checked.weights.tolist() == [1] * 17


def test_missing_joints_come_from_a_teacher_that_agrees_elsewhere() -> None:
    weights = np.ones(17, np.float32)
    weights[:5] = 0
    faceless = person(keypoints_xy=MADE.keypoints_xy * (weights[:, None] > 0), weights=weights)
    checked = check(Knowing(), faceless)
    np.testing.assert_allclose(checked.keypoints_xy, MADE.keypoints_xy, atol=1e-3)
    assert checked.weights[:5] == pytest.approx([0.9] * 5)
    elsewhere = check(Knowing(noise=0), replace(faceless, keypoints_xy=faceless.keypoints_xy + np.float32(30)))
    assert elsewhere.weights[:5].tolist() == [0] * 5


def test_a_joint_that_the_teacher_sees_elsewhere_loses_weight() -> None:
    points = MADE.keypoints_xy.copy()
    points[9] += 60
    weights = check(Knowing(), person(keypoints_xy=points)).weights
    assert weights[9] == pytest.approx(0.15)
    assert (np.delete(weights, 9) == 1).all()
