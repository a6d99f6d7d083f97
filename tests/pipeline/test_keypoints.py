from functools import partial

import numpy as np
import pytest

from posewire.pipeline.heads.heatmaps import Decode, decode_dark, decode_quarter, flip_heatmaps
from posewire.types import FloatArray

HEIGHT, WIDTH = 32, 24  # of the maps
SIGMAS = [0.8, 1.0, 1.15, 1.5, 2.0]
DECODERS: list[Decode] = [decode_quarter, *(partial(decode_dark, blur_sigma=sigma) for sigma in SIGMAS)]


def gaussian(places: FloatArray, sigma: float, peak: float = 0.9) -> FloatArray:
    """Heatmaps (1, K, h, w) with a bump at each of the places (K, 2) x y."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    squares = (xs - places[:, 0, None, None]) ** 2 + (ys - places[:, 1, None, None]) ** 2
    return np.asarray((peak * np.exp(-squares / (2 * sigma**2)))[None], np.float32)


def places(count: int, margin: float, seed: int = 0) -> FloatArray:
    limits = np.array([WIDTH, HEIGHT]) - 1 - margin
    return np.random.default_rng(seed).uniform(margin, limits, (count, 2)).astype(np.float32)


def distances(decode: Decode, sigma: float, truth: FloatArray) -> FloatArray:
    found, _ = decode(gaussian(truth, sigma))
    return np.asarray(np.linalg.norm(found[0] - truth, axis=-1), np.float32)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_dark_finds_a_gaussian_s_place_between_the_pixels(sigma: float) -> None:
    truth = places(200, margin=3 * sigma + 3)
    dark = distances(partial(decode_dark, blur_sigma=sigma), sigma, truth)
    assert dark.max() < 0.05
    assert dark.mean() < distances(decode_quarter, sigma, truth).mean() / 4


def test_dark_follows_a_bump_that_lies_askew() -> None:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    x, y = xs - 11.4, ys - 15.7
    askew = np.exp(-(x**2 + y**2 - x * y) / 4)[None, None].astype(np.float32)
    xy, _ = decode_dark(askew, 1.0)
    assert xy[0, 0] == pytest.approx([11.4, 15.7], abs=0.01)


@pytest.mark.parametrize("place", [(1.3, 12.4), (9.7, 0.6), (22.3, 12.4), (9.7, 30.4)])
def test_dark_leaves_a_peak_at_the_border_where_it_is(place: tuple[float, float]) -> None:
    xy, _ = decode_dark(gaussian(np.array([place], np.float32), 1.5), 1.5)
    assert xy[0, 0].tolist() == [round(place[0]), round(place[1])]


def test_dark_leaves_a_peak_that_smooths_to_a_pit_where_it_is() -> None:
    pit = np.full((1, 1, HEIGHT, WIDTH), 0.9, np.float32)
    pit[..., 11:] = 0.8
    pit[0, 0, 14:17, 9:12] = 0
    pit[0, 0, 15, 10] = 1
    xy, _ = decode_dark(pit, 1.0)
    assert xy[0, 0].tolist() == [10, 15]


@pytest.mark.parametrize("sigma", [1.15, 2.0])
def test_dark_bears_another_sigma_than_the_one_it_was_told(sigma: float) -> None:
    assert distances(partial(decode_dark, blur_sigma=1.5), sigma, places(100, margin=9)).max() < 0.05


@pytest.mark.parametrize("sigma", SIGMAS)
def test_quarter_is_within_a_quarter_pixel_in_x_and_in_y(sigma: float) -> None:
    truth = places(200, margin=3)
    found, _ = decode_quarter(gaussian(truth, sigma))
    assert np.abs(found[0] - truth).max() <= 0.25 + 1e-5


@pytest.mark.parametrize(
    ("peak", "neighbours", "expected"),  # neighbours: left, right, above, below
    [
        ((10, 12), (0.3, 0.5, 0.1, 0.2), (10.25, 12.25)),
        ((10, 12), (0.5, 0.3, 0.2, 0.1), (9.75, 11.75)),
        ((10, 12), (0.4, 0.4, 0.3, 0.2), (10, 11.75)),  # as high on either side: it stays
        ((2, 2), (0.1, 0.2, 0.2, 0.1), (2.25, 1.75)),
        ((22, 30), (0.1, 0.2, 0.2, 0.1), (22.25, 29.75)),
        ((1, 12), (0.1, 0.2, 0.2, 0.1), (1, 12)),  # at the border, as in the original: no shift in x nor in y
        ((10, 31), (0.1, 0.2, 0.2, 0.0), (10, 31)),
    ],
)
def test_quarter_by_hand(peak: tuple[int, int], neighbours: tuple[float, ...], expected: tuple[float, float]) -> None:
    padded = np.zeros((1, 1, HEIGHT + 2, WIDTH + 2), np.float32)
    x, y = peak[0] + 1, peak[1] + 1
    padded[0, 0, y, x] = 0.8
    for (dx, dy), value in zip(((-1, 0), (1, 0), (0, -1), (0, 1)), neighbours, strict=True):
        padded[0, 0, y + dy, x + dx] = value
    xy, scores = decode_quarter(padded[..., 1:-1, 1:-1])
    assert xy[0, 0].tolist() == list(expected)
    assert scores[0, 0] == np.float32(0.8)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "place", [(0, 0), (23, 0), (0, 31), (23, 31), (12, 0), (0, 9), (1, 1), (22, 30), (21.6, 29.4), (-3, 40), (2.4, 1.6)]
)
def test_a_peak_at_the_border_stays_inside_the_map(decode: Decode, place: tuple[float, float]) -> None:
    xy, scores = decode(gaussian(np.array([place], np.float32), 2.0))
    inside = np.clip(place, 0, [WIDTH - 1, HEIGHT - 1])
    assert np.abs(xy[0, 0] - inside).max() <= 1
    assert (xy >= 0).all()
    assert (xy <= [WIDTH - 1, HEIGHT - 1]).all()
    assert 0 <= scores[0, 0] <= 1


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(("value", "score"), [(0.0, 0.0), (0.5, 0.5), (-3.0, 0.0), (7.0, 1.0), (1e-30, 0.0)])
def test_a_flat_map_has_a_place_inside_and_a_score_in_range(decode: Decode, value: float, score: float) -> None:
    xy, scores = decode(np.full((2, 3, HEIGHT, WIDTH), value, np.float32))
    assert (xy.shape, scores.shape) == ((2, 3, 2), (2, 3))
    assert xy.dtype == scores.dtype == np.float32
    assert np.isfinite(xy).all()
    assert ((xy >= 0) & (xy <= [WIDTH - 1, HEIGHT - 1])).all()
    assert scores == pytest.approx(np.full((2, 3), score))


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("noise", ["uniform", "signed", "spikes"])
def test_noise_moves_no_keypoint_more_than_a_pixel_from_its_peak(decode: Decode, noise: str) -> None:
    generator = np.random.default_rng(5)
    maps = {
        "uniform": generator.uniform(0, 1, (8, 17, HEIGHT, WIDTH)),
        "signed": generator.normal(0, 1, (8, 17, HEIGHT, WIDTH)),
        "spikes": (generator.uniform(0, 1, (8, 17, HEIGHT, WIDTH)) > 0.97) * generator.uniform(0, 1, (8, 17, HEIGHT, WIDTH)),
    }[noise].astype(np.float32)
    index = maps.reshape(8, 17, -1).argmax(-1)
    xy, scores = decode(maps)
    assert np.abs(xy - np.stack([index % WIDTH, index // WIDTH], -1)).max() <= 1
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("decode", DECODERS)
def test_each_map_is_decoded_by_itself(decode: Decode) -> None:
    maps = np.concatenate([gaussian(places(5, margin=2, seed=seed), 1.5, peak=0.2 + 0.1 * seed) for seed in range(4)])
    xy, scores = decode(maps)
    for n in range(4):
        alone_xy, alone_scores = decode(maps[n : n + 1])
        assert np.array_equal(alone_scores[0], scores[n])
        assert alone_xy[0] == pytest.approx(xy[n], abs=1e-5)


MIRRORED = (0, 2, 1, 4, 3)


def test_flipping_twice_is_nothing() -> None:
    maps = np.random.default_rng(0).uniform(0, 1, (2, 5, HEIGHT, WIDTH)).astype(np.float32)
    assert np.array_equal(flip_heatmaps(flip_heatmaps(maps, MIRRORED, 0), MIRRORED, 0), maps)


@pytest.mark.parametrize(("shift", "x"), [(0, 23 - 4), (1, 23 - 4 + 1), (2, 23 - 4 + 2)])
@pytest.mark.parametrize(("keypoint", "mirrored"), [(0, 0), (1, 2), (2, 1), (3, 4), (4, 3)])
def test_a_flip_mirrors_swaps_and_shifts(shift: int, x: int, keypoint: int, mirrored: int) -> None:
    maps = np.zeros((1, 5, HEIGHT, WIDTH), np.float32)
    maps[0, keypoint, 7, 4] = 1
    flipped = flip_heatmaps(maps, MIRRORED, shift)
    assert np.argwhere(flipped).tolist() == [[0, mirrored, 7, x]]
    assert maps.sum() == 1
    assert maps[0, keypoint, 7, 4] == 1


def test_a_shift_leaves_the_first_column_as_it_was() -> None:
    maps = np.arange(WIDTH, dtype=np.float32) * np.ones((1, 1, HEIGHT, 1), np.float32)
    assert flip_heatmaps(maps, (0,), 1)[0, 0, 0].tolist() == [23, *range(23, 0, -1)]
