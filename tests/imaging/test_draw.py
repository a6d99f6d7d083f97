import io
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from posewire.errors import TooLarge
from posewire.imaging.draw import ImageType, Look, draw_poses, encode, sides_of
from posewire.types import Keypoints, Pose, UInt8Array

SKELETON = [(0, 1), (1, 2), (0, 2)]  # nose to left, left to right, nose to right
LOOK = Look.of(["nose", "left_eye", "right_eye"], SKELETON)
NOWHERE = (0.0, 0.0, 0.0, 0.0)  # a box that is not drawn


def pose(points: list[tuple[float, float]], scores: float | list[float] = 1.0, box: tuple[float, ...] = NOWHERE) -> Pose:
    xy = np.array(points, np.float64).astype(np.float32)
    return Pose(
        np.array(box, np.float64).astype(np.float32),
        0.9,
        Keypoints(xy, np.broadcast_to(np.asarray(scores, np.float32), len(points)).copy()),
    )


def image(value: int = 128, height: int = 240, width: int = 320) -> UInt8Array:
    return np.full((height, width, 3), value, np.uint8)


def draw(pixels: UInt8Array, *people: Pose, min_score: float = 0.3) -> UInt8Array:
    return draw_poses(pixels, people, LOOK, min_keypoint_score=min_score)


def touched(before: UInt8Array, after: UInt8Array) -> npt.NDArray[np.bool_]:
    return np.asarray((before != after).any(-1))


TRIANGLE = [(160.0, 40.0), (60.0, 200.0), (260.0, 200.0)]


def test_the_image_given_stays_as_it_is() -> None:
    pixels = image()
    pixels.flags.writeable = False
    drawn = draw(pixels, pose(TRIANGLE))
    assert (pixels == 128).all()
    assert drawn.shape == pixels.shape
    assert drawn.dtype == np.uint8
    assert touched(pixels, drawn).any()


def test_nobody_leaves_the_image_equal_but_another() -> None:
    pixels = image()
    drawn = draw(pixels)
    assert np.array_equal(drawn, pixels)
    assert not np.shares_memory(drawn, pixels)


def test_a_view_with_strides_is_drawn_like_its_copy() -> None:
    wide = image(width=640)
    assert np.array_equal(draw(wide[:, ::2], pose(TRIANGLE)), draw(image(), pose(TRIANGLE)))


def test_limbs_are_drawn_between_their_ends_in_the_colours_of_their_sides() -> None:
    drawn = draw(image(), pose(TRIANGLE)).astype(int)
    left, right, across = drawn[120, 110], drawn[120, 210], drawn[200, 160]
    assert left[0] > 200 > left[2] + 100  # orange
    assert right[2] > 200 > right[0] + 100  # blue
    assert (across > 230).all()  # white
    assert (drawn[120, 160] == 128).all()  # inside the triangle


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_every_line_stands_out_on_any_ground(ground: int) -> None:
    """Across each limb there is a pixel far brighter or darker than the ground."""
    drawn = draw(image(ground), pose(TRIANGLE)).astype(int)
    for patch in (drawn[120, 100:120], drawn[120, 200:220], drawn[190:210, 160]):
        assert np.abs(patch - ground).max() > 100


def test_a_dark_rim_lies_about_the_colour() -> None:
    person = pose([(0, 0), (100, 400), (700, 400)], [0, 1, 1], (50, 50, 700, 700))
    column = draw(image(255, 800, 800), person)[380:420, 400].astype(int).sum(-1)
    dark = np.flatnonzero(column < 150)
    bright_between = column[dark.min() : dark.max()].max()
    assert bright_between > 690
    assert column[0] == column[-1] == 3 * 255


def test_a_keypoint_alone_is_a_dot_with_a_dark_rim() -> None:
    drawn = draw(image(255), pose(TRIANGLE, [1.0, 0.0, 0.0])).astype(int)
    assert drawn[40, 160].min() > 230
    assert drawn[30:50, 150:170].sum(-1).min() < 150


def test_edges_are_smooth() -> None:
    drawn = draw(image(255), pose(TRIANGLE))
    limb, dot = drawn[100:140, 90:130], drawn[20:60, 140:180]
    for part in (limb, dot):
        assert len(np.unique(part.reshape(-1, 3), axis=0)) > 10


def test_a_lesser_keypoint_goes_and_takes_its_limbs_with_it() -> None:
    pixels = image()
    drawn = draw(pixels, pose(TRIANGLE, [1.0, 1.0, 0.29]))
    marks = touched(pixels, drawn)
    assert marks[120, 110]
    assert not marks[:, 200:].any()
    assert touched(pixels, draw(pixels, pose(TRIANGLE, [1.0, 1.0, 0.31])))[200, 260]


def test_a_score_at_the_limit_counts() -> None:
    pixels = image()
    assert touched(pixels, draw(pixels, pose(TRIANGLE, 0.5), min_score=0.5))[200, 260]


def test_a_score_that_is_no_number_is_not_drawn() -> None:
    pixels = image()
    assert np.array_equal(draw(pixels, pose(TRIANGLE, float("nan")), min_score=0.0), pixels)


def test_the_box_is_a_thin_frame() -> None:
    pixels = image()
    marks = touched(pixels, draw(pixels, pose(TRIANGLE, 0.0, (50, 30, 200, 150))))
    for y, x in ((30, 150), (180, 150), (100, 50), (100, 250)):
        assert marks[y, x]
    assert not marks[40:170, 60:240].any()
    assert not marks[:24].any()
    assert marks.mean() < 0.08


def test_lines_grow_with_the_person_and_with_the_image() -> None:
    def limb_width(side: int, box: float) -> int:
        pixels = image(128, side, side)
        person = pose([(0, 0), (side * 0.1, side / 2), (side * 0.9, side / 2)], [0.0, 1.0, 1.0], (side * 0.1, 0, box, box))
        return int(touched(pixels, draw(pixels, person))[side // 4 : -side // 4, side // 2].sum())

    small, large, huge = limb_width(800, 40), limb_width(800, 700), limb_width(2400, 2200)
    assert small < large < huge
    assert limb_width(2400, 40) > small


def test_the_best_person_is_on_top() -> None:
    first, second = pose([(0, 0), (20, 120), (300, 120)], [0, 1, 1]), pose([(160, 20), (160, 220), (0, 0)], [1, 1, 0])
    white_over, orange_over = draw(image(), first, second), draw(image(), second, first)
    assert white_over[120, 160].min() > 230
    assert orange_over[120, 160, 0] > 200 > orange_over[120, 160, 2]


def test_a_limb_that_leaves_the_image_is_drawn_up_to_the_edge() -> None:
    pixels = image()
    near = draw(pixels, pose([(0, 0), (100, 120), (3200, 120)], [0, 1, 1]))
    for far in (1e6, 1e12, 3e38):
        assert np.array_equal(draw(pixels, pose([(0, 0), (100, 120), (far, 120)], [0, 1, 1])), near)
    assert touched(pixels, near)[120, 100:].all()
    assert not touched(pixels, near)[:, :80].any()


def test_a_limb_across_the_image_with_both_ends_outside_is_drawn() -> None:
    pixels = image()
    drawn = draw(pixels, pose([(0, 0), (-1e9, -1e9), (1e9, 1e9)], [0, 1, 1]))
    assert touched(pixels, drawn)[np.arange(5, 235), np.arange(5, 235)].all()


def test_a_limb_that_passes_by_leaves_no_mark() -> None:
    pixels = image()
    assert np.array_equal(draw(pixels, pose([(-900, 0), (-500, 1e9), (-500, -1e9)])), pixels)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_left_out_and_the_rest_drawn(bad: float) -> None:
    pixels = image()
    expected = draw(pixels, pose(TRIANGLE, [1.0, 1.0, 0.0]))
    assert np.array_equal(draw(pixels, pose([*TRIANGLE[:2], (bad, 200)])), expected)
    assert np.array_equal(draw(pixels, pose([*TRIANGLE[:2], (200, bad)])), expected)
    for place in range(4):
        box = [10.0, 10.0, 100.0, 100.0]
        box[place] = bad
        assert touched(pixels, draw(pixels, pose(TRIANGLE, box=tuple(box))))[120, 110]


@pytest.mark.parametrize(
    "box",
    [
        (-1e9, -1e9, 2e9, 2e9),
        (3e38, 0, 3e38, 5),
        (-3e38, -3e38, 3.3e38, 3.3e38),
        (10, 10, -5, 20),
        (400, 300, 50, 50),
        (5, 5, 1e-30, 1e-30),
    ],
)
def test_no_box_is_too_odd(box: tuple[float, ...]) -> None:
    assert draw(image(), pose(TRIANGLE, box=box)).shape == (240, 320, 3)


def test_random_nonsense_never_raises() -> None:
    rng = np.random.default_rng(7)
    odd = np.array([0, -1, 1e3, -1e3, 2**31, -(2**31), 2**27, 1e18, -3e38, 3e38, np.nan, np.inf, 1e-40, 159.5])
    for _ in range(300):
        person = pose([(x, y) for x, y in rng.choice(odd, (3, 2))], box=tuple(rng.choice(odd, 4)))
        height, width = rng.integers(1, 40, 2).tolist()
        with np.errstate(all="raise"):
            assert draw(image(128, height, width), person).shape == (height, width, 3)


def test_the_smallest_image_can_be_drawn_on() -> None:
    assert draw(image(128, 1, 1), pose(TRIANGLE, box=(0, 0, 1, 1)), pose([(0, 0)] * 3)).shape == (1, 1, 3)


def test_sides_come_from_names() -> None:
    assert sides_of(["nose", "left_eye", "right_eye", "neck", "left_ankle"]) == (0, 1, -1, 0, 1)


@pytest.mark.parametrize(("media_type", "kind", "error"), [("image/png", "PNG", 0), ("image/jpeg", "JPEG", 12)])
def test_another_reader_sees_the_same_colours(media_type: str, kind: str, error: int) -> None:
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8), (0, 0), 4).astype(np.uint8)
    pixels[..., 0] = np.minimum(pixels[..., 0].astype(int) + 90, 255)
    read = Image.open(io.BytesIO(encode(pixels, cast(ImageType, media_type))))
    assert (read.format, read.size) == (kind, (80, 60))
    assert np.abs(np.asarray(read.convert("RGB")).astype(int) - pixels).max() <= error


def test_jpeg_is_of_quality_90() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    ours = Image.open(io.BytesIO(encode(pixels, "image/jpeg")))
    assert ours.quantization == Image.open(buffer).quantization  # type: ignore[attr-defined]


def test_a_view_can_be_encoded() -> None:
    wide = image(width=640)
    assert encode(wide[::-1, ::2], "image/png") == encode(image(), "image/png")


def test_an_image_too_long_for_jpeg_is_refused_in_words() -> None:
    pixels = image(128, 1, 65501)
    with pytest.raises(TooLarge, match="image/png"):
        encode(pixels, "image/jpeg")
    assert encode(pixels[:, 1:], "image/jpeg")[:2] == b"\xff\xd8"
    assert encode(pixels, "image/png")[:4] == b"\x89PNG"
