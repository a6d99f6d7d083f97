import math

import pytest

from posewire.events.geometry import angle_deg, crosses, inside, side, tilt_deg

SQUARE = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]
CONCAVE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0)]  # a notch from below


@pytest.mark.parametrize(
    ("polygon", "point", "expected"),
    [
        (SQUARE, (0.5, 0.5), True),
        (SQUARE, (0.1, 0.5), False),
        (SQUARE, (0.5, 0.9), False),
        (SQUARE[::-1], (0.5, 0.5), True),
        (CONCAVE, (0.5, 0.4), True),
        (CONCAVE, (0.5, 0.8), False),
        (CONCAVE, (0.1, 0.7), True),
    ],
)
def test_inside(polygon: list[tuple[float, float]], point: tuple[float, float], expected: bool) -> None:
    assert inside(polygon, point) is expected


def test_the_right_of_someone_who_looks_down_the_frame_is_on_its_left() -> None:
    # y points down: who looks from the top to the bottom has smaller x on the right hand
    assert side((0.5, 0), (0.5, 1), (0.2, 0.5)) == pytest.approx(0.3)
    assert side((0.5, 0), (0.5, 1), (0.9, 0.5)) == pytest.approx(-0.4)


def test_who_walks_past_the_end_of_a_line_does_not_cross_it() -> None:
    assert crosses((0.5, 0.2), (0.5, 0.8), (0.4, 0.5), (0.6, 0.5))
    assert not crosses((0.5, 0.2), (0.5, 0.8), (0.4, 0.9), (0.6, 0.9))


@pytest.mark.parametrize("turn", range(0, 360, 30))
@pytest.mark.parametrize("expected", [0, 45, 90, 135, 180])
def test_the_angle_of_a_joint_does_not_depend_on_its_direction(turn: int, expected: int) -> None:
    a, c = math.radians(turn), math.radians(turn + expected)
    assert angle_deg((math.cos(a), math.sin(a)), (0, 0), (math.cos(c), math.sin(c))) == pytest.approx(expected, abs=1e-9)


def test_the_tilt_of_a_trunk() -> None:
    assert tilt_deg((0, 0), (0, -10)) == 0  # y points down
    assert tilt_deg((0, 0), (10, 0)) == pytest.approx(90)
    assert tilt_deg((0, 0), (-7, -7)) == pytest.approx(45)
    assert tilt_deg((0, 0), (0, 10)) == pytest.approx(180)
