"""What the smoothing does to steps, noise, speed, gaps and doubtful keypoints."""

import numpy as np
import numpy.typing as npt
import pytest

from posewire.pipeline.tracking.one_euro import KeypointSmoother, SmoothPolicy
from posewire.types import FloatArray, Keypoints

STILL = SmoothPolicy(beta=0.0)


def through(
    times: list[float],
    xy: npt.NDArray[np.floating],
    policy: SmoothPolicy | None = None,
    *,
    size: float = 100,
    scores: FloatArray | None = None,
) -> FloatArray:
    """One keypoint's places, (N, 2), smoothed."""
    smoother = KeypointSmoother(1, policy)
    scores = np.full(len(times), 0.9, np.float32) if scores is None else scores
    return np.array(
        [smoother.step(t, Keypoints(p[None].astype(np.float32), s[None]), size).xy[0] for t, p, s in zip(times, xy, scores, strict=True)]
    )


def test_the_first_place_is_taken_as_it_is_and_a_still_one_stays() -> None:
    xy = np.full((20, 2), 50, np.float32)
    assert through([i / 10 for i in range(20)], xy) == pytest.approx(xy)


def test_a_step_is_followed_without_overshoot() -> None:
    xy = np.where(np.arange(40)[:, None] < 10, [[100, 100]], [[130, 90]]).astype(np.float32)
    x, y = through([i / 10 for i in range(40)], xy).T
    assert (np.diff(x[9:]) >= -1e-4).all()
    assert (np.diff(y[9:]) <= 1e-4).all()
    assert x[-1] == pytest.approx(130, abs=0.1)


@pytest.mark.parametrize("rate", [10, 30])
def test_jitter_of_a_person_who_stands_is_more_than_halved(rate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (500, 2))
    smooth = through([i / rate for i in range(500)], 200 + noise)
    assert np.diff(smooth, axis=0).std() < np.diff(noise, axis=0).std() / 2


@pytest.mark.parametrize(("speed", "rate"), [(100, 10), (200, 10), (100, 30)])
def test_someone_who_walks_is_less_than_one_frame_late(speed: float, rate: float) -> None:
    times = [i / rate for i in range(60)]
    x = np.array([[speed * t, 0] for t in times])
    lag_s = (x[-1, 0] - through(times, x)[-1, 0]) / speed
    assert 0 <= lag_s < 1 / 10


def test_dropped_frames_do_not_change_where_a_still_target_is_reached() -> None:
    times = [i / 30 for i in range(60)]
    xy = np.where(np.arange(60)[:, None] == 0, [[0, 0]], [[80, 40]]).astype(np.float32)
    kept = [i for i in range(60) if i == 0 or i % 4 == 3]
    every = through(times, xy, STILL)
    some = through([times[i] for i in kept], xy[kept], STILL)
    assert some == pytest.approx(every[kept], abs=1e-3)


def test_speed_counts_in_sizes_of_the_person() -> None:
    times = [i / 10 for i in range(30)]
    noise = np.cumsum(np.random.default_rng(1).normal(0, 3, (30, 2)), 0)
    near, far = through(times, 4 * noise, size=400), through(times, noise, size=100)
    assert near == pytest.approx(4 * far, abs=1e-2)


def test_a_doubtful_keypoint_moves_less() -> None:
    times, xy = [0.0, 0.1], np.array([[0, 0], [30, 0]])
    sure = through(times, xy, scores=np.array([0.9, 0.9], np.float32))[1, 0]
    doubtful = through(times, xy, scores=np.array([0.9, 0.15], np.float32))[1, 0]
    assert 0 < doubtful < sure / 2


def test_a_keypoint_that_was_not_seen_for_long_starts_anew() -> None:
    times = [0.0, 0.1, 0.2, 0.9, 1.0]
    scores = np.array([0.9, 0.9, 0.0, 0.9, 0.9], np.float32)
    xy = np.array([[0, 0], [0, 0], [555, 555], [200, 100], [200, 100]])
    smooth = through(times, xy, scores=scores)
    assert smooth[2] == pytest.approx([555, 555])  # what is not seen is passed on, and forgotten
    assert smooth[3] == pytest.approx([200, 100])


def test_a_keypoint_that_is_not_finite_harms_no_other() -> None:
    smoother = KeypointSmoother(2)
    scores = np.full(2, 0.9, np.float32)
    for i, bad in enumerate([0, np.nan, np.inf, 0]):
        places = smoother.step(i / 10, Keypoints(np.array([[bad, 0], [10, 10]], np.float32), scores), 100).xy
        assert places[1] == pytest.approx([10, 10])
    assert places[0] == pytest.approx([0, 0])


def test_scores_stay_as_they_are() -> None:
    scores = np.array([0.3], np.float32)
    assert KeypointSmoother(1).step(0, Keypoints(np.zeros((1, 2), np.float32), scores), 10).scores is scores
