"""What the pose network sees of a person, and the heatmaps it is to answer."""

from collections.abc import Callable

import numpy as np
import pytest

from model_store.training.augment import Sample, View, augment, half_body, jitter, occlude, plain_view, show, truncate, view_affine
from model_store.training.colour import recolour
from model_store.training.data.records import swap_sides
from model_store.training.recipe import PoseAugmentation
from model_store.training.targets import STRIDE, encode, within
from posewire.imaging.geometry import apply_affine, crop_affine
from posewire.pipeline.heads.heatmaps import decode_dark
from posewire.pipeline.pose_estimator import PADDING
from posewire.types import FloatArray
from tests.training.data.stick import stick

MADE = stick(3)
WHOLE = Sample(MADE.pixels, MADE.keypoints_xy, np.ones(17, np.float32), MADE.box_xywh)
STILL = PoseAugmentation(half_body=0, truncation=0, scale_sigma=0, shift_sigma=0, rotation=0, mirror=0, occlusion=0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def marked(sample: Sample) -> Sample:
    """The same person in a black image with a white dot on the left wrist."""
    pixels = np.zeros_like(sample.pixels)
    x, y = sample.keypoints_xy[9].round().astype(int)
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    points = sample.keypoints_xy.copy()
    points[9] = x, y
    return Sample(pixels, points, sample.weights, sample.box_xywh)


def brightest(sample: Sample) -> FloatArray:
    """The middle of the light, x y."""
    light = sample.pixels[..., 0].astype(np.float64)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(x * light).sum(), (y * light).sum()], np.float32) / np.float32(light.sum())


@pytest.mark.parametrize("turned", [0.0, 0.7, -1.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_keypoints_go_where_their_pixels_go(turned: float, mirrored: bool) -> None:
    sample = marked(WHOLE)
    view = View(sample.keypoints_xy[9] + np.float32(5), 90.0, turned, mirrored)
    shown = show(sample, view, 128, 96)
    assert shown.pixels.shape == (128, 96, 3)
    # The dot is on the person's left wrist, which a mirrored image shows as the right one.
    np.testing.assert_allclose(brightest(shown), shown.keypoints_xy[10 if mirrored else 9], atol=0.3)


def test_a_plain_view_is_what_the_service_cuts_out() -> None:
    affine = view_affine(plain_view(WHOLE.box_xywh, 128 / 96), 128, 96)
    np.testing.assert_allclose(affine, crop_affine(WHOLE.box_xywh, 128, 96, PADDING), atol=1e-4)
    shown = augment(WHOLE, STILL, 128, 96, rng())
    np.testing.assert_allclose(shown.keypoints_xy, apply_affine(affine, WHOLE.keypoints_xy), atol=1e-3)
    assert shown.weights.tolist() == [1] * 17


def test_mirrored_weights_change_sides_too() -> None:
    weights = np.linspace(0, 1, 17, dtype=np.float32)
    plain = plain_view(WHOLE.box_xywh, 1.0)
    shown = show(Sample(WHOLE.pixels, WHOLE.keypoints_xy, weights, WHOLE.box_xywh), View(plain.centre, plain.height, 0, True), 64, 64)
    np.testing.assert_array_equal(shown.weights, swap_sides(weights[:, None])[:, 0])


def test_keypoints_outside_the_view_weigh_nothing() -> None:
    shown = show(WHOLE, View(WHOLE.keypoints_xy[0], 60.0), 64, 48)
    inside = ((shown.keypoints_xy >= 0) & (shown.keypoints_xy <= [47, 63])).all(1)
    assert shown.weights.tolist() == inside.astype(float).tolist()
    assert 0 < inside.sum() < 17


def test_a_half_of_the_body_fills_its_view() -> None:
    halves = [view for seed in range(40) if (view := half_body(WHOLE, 4 / 3, rng(seed))) is not None]
    whole = plain_view(WHOLE.box_xywh, 4 / 3)
    assert {bool(view.centre[1] < whole.centre[1]) for view in halves} == {True, False}
    for view in halves:
        upper = view.centre[1] < whole.centre[1]
        part = np.arange(17) < 11 if upper else np.arange(17) >= 11
        shown = show(WHOLE, view, 128, 96)
        assert shown.weights[part].all()
        assert view.height < whole.height
    assert half_body(Sample(WHOLE.pixels, WHOLE.keypoints_xy, np.zeros(17, np.float32), WHOLE.box_xywh), 4 / 3, rng()) is None


def test_a_truncated_person_ends_at_the_border_of_its_image() -> None:
    cut = [truncate(WHOLE, rng(seed)) for seed in range(60)]
    changed = [sample for sample in cut if sample is not WHOLE]
    assert len(changed) > 30
    ends = set()
    for sample in changed:
        gone = (WHOLE.weights > 0) & (sample.weights == 0)
        low, high = sample.box_xywh[:2], sample.box_xywh[:2] + sample.box_xywh[2:]
        assert ((sample.keypoints_xy[~gone] >= low - 1) & (sample.keypoints_xy[~gone] <= high + 1)).all()
        assert (sample.weights > 0).sum() >= 5
        black = (sample.pixels == 0).all(-1)
        assert black.any()
        beyond = ((sample.keypoints_xy < low - 1) | (sample.keypoints_xy > high + 1)).any(1)
        x, y = sample.keypoints_xy[beyond].round().astype(int).T
        assert black[y, x].all()
        assert not sample.weights[beyond].any()
        ends.add((bool(black[-1].all()), bool(black[0].all()), bool(black[:, 0].all()), bool(black[:, -1].all())))
    assert len(ends) >= 3
    assert np.array_equal(WHOLE.pixels, stick(3).pixels)  # the stored crop is as it was


def test_occlusion_hides_pixels_and_no_keypoints() -> None:
    for seed in range(10):
        hidden = occlude(WHOLE, rng(seed))
        changed = (hidden.pixels != WHOLE.pixels).any(-1).mean()
        assert 0.005 < changed < 0.15
        assert hidden.weights is WHOLE.weights


def test_jitter_keeps_within_its_bounds() -> None:
    views = [
        jitter(View(np.zeros(2, np.float32), 100.0), PoseAugmentation(scale_sigma=1, rotation=1, rotation_sigma=2), rng(n))
        for n in range(200)
    ]
    heights = [view.height for view in views]
    assert min(heights) == pytest.approx(65)
    assert max(heights) == pytest.approx(140)
    assert max(abs(view.turned) for view in views) == 1
    assert 0.3 < np.mean([view.mirrored for view in views]) < 0.7


def test_the_same_chance_gives_the_same_sample() -> None:
    always = PoseAugmentation(half_body=0.5, truncation=0.5, occlusion=1)
    a, b, c = (augment(WHOLE, always, 64, 48, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(a.keypoints_xy, b.keypoints_xy)
    assert not np.array_equal(a.pixels, c.pixels)


def test_colours_change_and_pixels_stay() -> None:
    def change(**how: float) -> Callable[[int], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        return lambda seed: recolour(MADE.pixels, **({"gain": 0, "levels": 0, "tint": 0, "grey": 0} | how), rng=rng(seed))

    np.testing.assert_array_equal(change()(0), MADE.pixels)
    grey = change(grey=1)(0)
    assert (grey == grey[..., :1]).all()
    brighter = change(levels=30)(1).astype(int) - MADE.pixels
    middle = (MADE.pixels > 100) & (MADE.pixels < 150)
    assert np.ptp(brighter[middle]) <= 1
    assert np.ptp(change(tint=30)(1).astype(int).mean((0, 1)) - MADE.pixels.mean((0, 1))) > 3
    assert change(gain=0.5)(1).std() != pytest.approx(MADE.pixels.std(), rel=0.01)


@pytest.mark.parametrize(("height", "width", "sigma"), [(64, 48, 2.3), (32, 24, 1.15), (24, 16, 1.0)])
def test_decoding_gives_encoded_places_back(height: int, width: int, sigma: float) -> None:
    # Nearer to the border the smoothing of DARK meets the zeros outside, and at the border it takes no step.
    margin = 2.5 * sigma + 2
    places = rng().uniform(margin, np.array([width, height]) - 1 - margin, (200, 17, 2)).astype(np.float32)
    found, scores = decode_dark(encode(places * STRIDE, height, width, sigma), sigma)
    assert np.abs(found - places).max() < 0.05
    near = rng().uniform(3, np.array([width, height]) - 5, (200, 17, 2)).astype(np.float32)
    assert np.abs(decode_dark(encode(near * STRIDE, height, width, sigma), sigma)[0] - near).max() < 0.15
    assert scores.min() > 0.7


def test_heatmaps_are_one_at_the_keypoint_and_weights_end_at_the_border() -> None:
    heatmaps = encode(np.array([[[40, 20]]], np.float32), 16, 24, 1.15)
    assert heatmaps.shape == (1, 1, 16, 24)
    assert heatmaps.argmax() == 5 * 24 + 10
    assert heatmaps.max() == 1
    places = np.array([[-2, 0], [-3, 0], [93, 0], [95, 0], [0, 61], [0, 63]], np.float32)
    assert within(places, 16, 24).tolist() == [True, False, True, False, True, False]
