"""The pure parts of the table of peers; none of the peers is needed."""

import math

import numpy as np
import pytest

from loadtests.models import blazepose
from loadtests.models.crops import circle_affine, square_affine
from loadtests.models.timing import race
from posewire.imaging.geometry import apply_affine
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.types import FloatArray, Keypoints


def array(values: object) -> FloatArray:
    return np.array(values, np.float64).astype(np.float32)


@pytest.mark.parametrize(("box", "longer"), [([100, 50, 40, 80], 80), ([100, 50, 120, 60], 120)])
@pytest.mark.parametrize("margin", [1.0, 1.25])
def test_a_square_has_the_person_in_the_middle(box: list[float], longer: float, margin: float) -> None:
    affine = square_affine(array(box), 256, margin)
    x, y, w, h = box
    corners = array([[x, y], [x + w, y + h], [x + w / 2, y + h / 2]])
    scale = 256 / (margin * longer)
    expected = [[128 - w / 2 * scale, 128 - h / 2 * scale], [128 + w / 2 * scale, 128 + h / 2 * scale], [128, 128]]
    assert apply_affine(affine, corners) == pytest.approx(array(expected), abs=1e-2)


def test_a_box_of_no_size_still_has_a_square() -> None:
    assert np.isfinite(square_affine(array([5, 5, 0, 0]), 256, 1.25)).all()


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 250])
def test_a_person_in_a_circle_stands_upright(degrees: float) -> None:
    lean = math.radians(degrees)  # clockwise as the image shows it
    centre = array([300, 200])
    rim = centre + 100 * array([math.sin(lean), -math.cos(lean)])
    right = centre + 50 * array([math.cos(lean), math.sin(lean)])
    found = apply_affine(circle_affine(centre, rim, 256, 1.25), np.stack([centre, rim, right]))
    scale = 256 / 250
    assert found == pytest.approx(array([[128, 128], [128, 128 - 100 * scale], [128 + 50 * scale, 128]]), abs=1e-2)


def test_a_circle_of_no_size_still_has_a_square() -> None:
    assert np.isfinite(circle_affine(array([9, 9]), array([9, 9]), 256, 1.25)).all()


def test_coco_s_keypoints_are_among_the_33_by_their_names() -> None:
    names = [  # of MediaPipe's topology, where COCO has the same
        *("nose", "", "left_eye", "", "", "right_eye", "", "left_ear", "right_ear", "", ""),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
        *("", "", "", "", "", "", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "", "", "", ""),
    ]
    assert len(names) == 33
    assert [names[i] for i in blazepose.COCO_OF_33] == list(KEYPOINT_SETS["coco-17"].names)
    every = Keypoints(np.arange(66, dtype=np.float32).reshape(33, 2), np.arange(33, dtype=np.float32))
    mapped = blazepose.to_coco(every)
    assert mapped.scores.tolist() == list(blazepose.COCO_OF_33)
    assert mapped.xy[:, 0].tolist() == [2 * i for i in blazepose.COCO_OF_33]


def answer(place: tuple[float, float]) -> FloatArray:
    """All landmarks at one place of the input."""
    rows = np.zeros((blazepose.LANDMARKS, 5), np.float32)
    rows[:, :2] = place
    return rows.reshape(-1)


def heatmaps(col: int, row: int, logit: float) -> FloatArray:
    maps = np.full((64, 64, blazepose.LANDMARKS), -30, np.float32)
    maps[row, col] = logit
    return maps


@pytest.mark.parametrize(
    ("col", "row", "logit", "expected"),
    [
        (30, 20, 5.0, (120, 80)),  # 2 heatmap pixels beside: it goes there
        (31, 23, 5.0, (124, 92)),  # the corner of the window
        (32, 20, 5.0, (112, 80)),  # outside the window
        (30, 20, -1.0, (112, 80)),  # not sure enough
    ],
)
def test_a_landmark_goes_where_its_heatmap_is_sure(col: int, row: int, logit: float, expected: tuple[float, float]) -> None:
    found = blazepose.landmarks(answer((112, 80)), heatmaps(col, row, logit))
    assert found.xy == pytest.approx(np.tile(array(expected), (blazepose.LANDMARKS, 1)), abs=1e-2)
    assert found.scores == pytest.approx(np.full(blazepose.LANDMARKS, 1 / (1 + math.exp(-logit))), abs=1e-5)


@pytest.mark.parametrize("place", [(-1, 80), (80, 256), (300, 300), (80, -40)])
def test_a_landmark_outside_the_input_stays(place: tuple[float, float]) -> None:
    found = blazepose.landmarks(answer(place), heatmaps(0, 0, 5.0))
    assert found.xy == pytest.approx(np.tile(array(place), (blazepose.LANDMARKS, 1)))


def test_a_landmark_at_the_edge_has_a_smaller_window() -> None:
    found = blazepose.landmarks(answer((2, 253)), heatmaps(0, 63, 5.0))
    assert found.xy == pytest.approx(np.tile(array((0, 252)), (blazepose.LANDMARKS, 1)), abs=1e-2)


def test_a_race_runs_everyone_as_often() -> None:
    order: list[str] = []
    found = race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=5)
    assert list(found) == ["a", "b"]
    assert order.count("a") == order.count("b") >= 5
    assert (found["a"].ratio, found["a"].low, found["a"].high) == (1, 1, 1)
    assert found["b"].low <= found["b"].ratio <= found["b"].high
    assert found["b"].ms_low <= found["b"].ms <= found["b"].ms_high
