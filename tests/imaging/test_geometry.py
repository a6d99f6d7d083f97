import numpy as np
import pytest

from posewire.imaging.geometry import (
    apply_affine,
    clip_boxes,
    crop_affine,
    cut_crops,
    invert_affine,
    letterbox,
    non_maximum_suppression,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from posewire.types import FloatArray, Frame, UInt8Array

HEIGHT, WIDTH = 128, 96  # of a crop


def array(values: object) -> FloatArray:
    return np.array(values, np.float64).astype(np.float32)


def image(height: int, width: int, value: int = 0) -> UInt8Array:
    return np.full((height, width, 3), value, np.uint8)


def test_corners_and_sizes_turn_into_each_other() -> None:
    corners, sizes = array([[10, 20, 40, 25], [-5, 0, 5, 1]]), array([[10, 20, 30, 5], [-5, 0, 10, 1]])
    assert np.array_equal(xyxy_to_xywh(corners), sizes)
    assert np.array_equal(xywh_to_xyxy(sizes), corners)
    assert xywh_to_xyxy(np.empty((0, 4), np.float32)).shape == (0, 4)


def test_boxes_are_clipped_to_the_image() -> None:
    boxes = array([[-5, -5, 50, 30], [10, 10, 20, 20], [90, 10, 200, 300], [150, 150, 160, 160]])
    clipped = clip_boxes(boxes, 100, 60)
    assert clipped.tolist() == [[0, 0, 50, 30], [10, 10, 20, 20], [90, 10, 100, 60], [100, 60, 100, 60]]
    assert clipped.dtype == np.float32


@pytest.mark.parametrize(
    ("size", "scale", "inner"),  # height x width
    [
        ((480, 640), 0.5, (240, 320)),
        ((640, 480), 0.5, (320, 240)),
        ((320, 320), 1.0, (320, 320)),
        ((80, 160), 2.0, (160, 320)),
        ((1, 1), 320.0, (320, 320)),
        ((1, 5000), 0.064, (1, 320)),
        ((5000, 1), 0.064, (320, 1)),
        ((333, 500), 0.64, (213, 320)),
    ],
)
def test_a_letterbox_fits_the_image_at_the_top_left(size: tuple[int, int], scale: float, inner: tuple[int, int]) -> None:
    canvas, found = letterbox(image(*size, value=200), 320, 320, 114)
    assert found == pytest.approx(scale)
    expected = image(320, 320, value=114)
    expected[: inner[0], : inner[1]] = 200
    assert canvas.dtype == np.uint8
    assert np.array_equal(canvas, expected)


def test_a_letterbox_need_not_be_square_and_keeps_its_colours_in_place() -> None:
    pixels = image(100, 200)
    pixels[:50, :100] = (10, 20, 30)
    pixels[50:, 100:] = (40, 50, 60)
    canvas, scale = letterbox(pixels, 30, 40, 7)
    assert scale == pytest.approx(0.2)
    assert [canvas[y, x].tolist() for y, x in ((0, 0), (8, 18), (11, 22), (19, 39), (20, 0))] == [
        *([10, 20, 30], [10, 20, 30]),
        *([40, 50, 60], [40, 50, 60]),
        [7, 7, 7],
    ]


@pytest.mark.parametrize(
    ("box", "shown"),  # the widths and heights that a crop shows: the aspect is 3:4, a quarter is added
    [
        ([0, 0, 96, 128], (120, 160)),
        ([50, 60, 300, 100], (375, 500)),  # wide: the height follows
        ([50, 60, 30, 400], (375, 500)),  # tall: the width follows
        ([-40, -80, 75, 100], (93.75, 125)),
        ([10, 10, 0, 0], (0.9375, 1.25)),  # nothing: no less than a pixel, and finite
    ],
)
def test_a_crop_shows_the_padded_box_about_its_centre(box: list[float], shown: tuple[float, float]) -> None:
    to_crop = crop_affine(array(box), HEIGHT, WIDTH, 1.25)
    centre = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
    half = np.array(shown) / 2
    corners = apply_affine(to_crop, array([centre - half, centre, centre + half]))
    assert corners == pytest.approx(array([[0, 0], [WIDTH / 2, HEIGHT / 2], [WIDTH, HEIGHT]]), abs=1e-3)


@pytest.mark.parametrize("origin", [0, 100, 1000, 7000])
@pytest.mark.parametrize("size", [(20, 30), (300, 200), (900, 1100)])
def test_there_and_back_again_is_the_same_place(origin: int, size: tuple[int, int]) -> None:
    to_crop = crop_affine(array([origin, origin, *size]), HEIGHT, WIDTH, 1.25)
    back = invert_affine(to_crop)
    assert back.dtype == np.float32
    points = array(np.random.default_rng(origin).uniform(0, 1, (50, 2))) * array(size) + np.float32(origin)
    assert apply_affine(back, apply_affine(to_crop, points)) == pytest.approx(points, abs=1e-3)


def test_an_affine_with_rotation_is_undone_and_keeps_the_points_shape() -> None:
    matrix = array([[0.6, -0.8, 30], [0.8, 0.6, -12]])
    points = array(np.arange(24).reshape(2, 6, 2))
    moved = apply_affine(matrix, points)
    assert moved[0, 1].tolist() == pytest.approx([0.6 * 2 - 0.8 * 3 + 30, 0.8 * 2 + 0.6 * 3 - 12])
    assert moved.shape == (2, 6, 2)
    assert moved.dtype == np.float32
    assert apply_affine(invert_affine(matrix), moved) == pytest.approx(points, abs=1e-4)


@pytest.mark.parametrize("box", [[60, 40, 60, 80], [150, 100, 75, 100], [0, 0, 30, 40], [380, 280, 15, 20]])
def test_a_marked_pixel_lands_where_the_affine_says(box: list[float]) -> None:
    pixels = image(300, 400)
    mark = np.array([int(box[0] + box[2] / 3), int(box[1] + box[3] / 2)])
    pixels[mark[1], mark[0]] = (250, 100, 50)
    [crop] = cut_crops(Frame(pixels), array([box]), HEIGHT, WIDTH, 1.25)
    assert crop.pixels.shape == (HEIGHT, WIDTH, 3)
    weights = crop.pixels[..., 0].astype(np.float64)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    centroid = np.array([(weights * xs).sum(), (weights * ys).sum()]) / weights.sum()
    assert apply_affine(crop.to_image, array(centroid)) == pytest.approx(mark, abs=0.25)
    brightest = crop.pixels.reshape(-1, 3)[weights.argmax()].astype(int)
    assert brightest[0] > brightest[1] > brightest[2]  # RGB stays RGB


def test_outside_the_image_a_crop_is_black() -> None:
    bright = Frame(image(100, 100, value=255))
    boxes = array([[-48, 0, 96, 128], [1000, 1000, 30, 40], [0, 0, 1e6, 1e6]])
    half, nothing, dot = cut_crops(bright, boxes, HEIGHT, WIDTH, 1.0)
    assert half.pixels[:98, 49:].min() == 255
    assert half.pixels[:, :47].max() == 0
    assert half.pixels[101:].max() == 0
    assert nothing.pixels.max() == 0
    assert (dot.pixels > 0).sum() <= 3 * 4


def test_every_box_has_a_crop_and_the_image_may_be_a_view() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (200, 300, 3), np.uint8)
    boxes = array([[10, 20, 60, 80], [100, 50, 90, 120]])
    crops = cut_crops(Frame(pixels), boxes, HEIGHT, WIDTH, 1.25)
    mirrored = cut_crops(Frame(pixels[:, ::-1][:, ::-1]), boxes, HEIGHT, WIDTH, 1.25)
    assert len(crops) == 2
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(crops, mirrored, strict=True))
    assert cut_crops(Frame(pixels), np.empty((0, 4), np.float32), HEIGHT, WIDTH, 1.25) == []


BOXES = array([[0, 0, 100, 100], [0, 0, 100, 60], [200, 0, 300, 100], [0, 0, 100, 100], [90, 90, 190, 190]])
SCORES = array([0.5, 0.9, 0.3, 0.7, 0.2])


@pytest.mark.parametrize(
    ("iou", "kept"),  # the first and the fourth are one box; with the second they overlap by 0.6; the last hardly
    [(0.55, [1, 2, 4]), (0.65, [1, 3, 2, 4]), (0.001, [1, 2, 4]), (1.0, [1, 3, 0, 2, 4])],
)
def test_suppression_keeps_the_best_of_those_that_overlap(iou: float, kept: list[int]) -> None:
    assert non_maximum_suppression(BOXES, SCORES, iou).tolist() == kept


def test_a_box_that_was_suppressed_suppresses_none() -> None:
    chain = array([[0, 0, 100, 100], [40, 0, 140, 100], [80, 0, 180, 100]])
    assert non_maximum_suppression(chain, array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_suppression_of_small_boxes_counts_fractions_of_a_pixel() -> None:
    boxes = array([[0.1, 0.1, 1.3, 1.3], [0.2, 0.1, 1.4, 1.3], [1.6, 0.1, 2.8, 1.3]])
    assert non_maximum_suppression(boxes, array([0.5, 0.6, 0.7]), 0.5).tolist() == [2, 1]


@pytest.mark.parametrize("count", [0, 1])
def test_suppression_of_none_and_of_one(count: int) -> None:
    kept = non_maximum_suppression(BOXES[:count], SCORES[:count], 0.5)
    assert kept.tolist() == list(range(count))
    assert kept.dtype == np.intp
