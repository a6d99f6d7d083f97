"""How much the smoothing steadies the keypoints of someone who stands, and how late it makes those of someone who walks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.video.films import read, session_of, started_engine, through
from loadtests.video.labels import LAST_FRAME, STANDING, people_in
from loadtests.video.matching import match
from posewire.engine.video_session import PoseSession
from posewire.pipeline.tracking.one_euro import KeypointSmoother, size_of
from posewire.types import FloatArray, Frame, Keypoints, Pose
from posewire.video.reading import VideoFrame

_RATE = 10.0  # frames a second
_NOISE = 4.0  # of a sensor, levels of 256
_SHOWN = 0.3  # mean score from which a keypoint counts

_Places = npt.NDArray[np.float64]


async def measure(video: Path) -> None:
    """Print jitter, raw and smoothed, of a standing person and of a still image with noise; and the lag."""
    film = read(video, LAST_FRAME + 1)
    name, first, last = STANDING
    async with started_engine() as engine:
        answers = await through(session_of(engine, detect_every=5, smooth=False), film)
        standing = []
        for frame in film[first : last + 1]:
            found = match(answers[frame.index], people_in(frame.index), {}).get(name)
            if found is not None:
                standing.append((frame.t_seconds, found))
        _print_jitter(f"standing person, {len(standing)} of {last - first + 1} frames", standing)
        _print_jitter("still image with noise, 60 frames", await _still(session_of(engine, detect_every=5, smooth=False), film[60].frame))
    tracks: dict[int, list[tuple[float, Pose]]] = {}
    for frame, people in zip(film, answers, strict=True):
        for person in people:
            tracks.setdefault(person.track_id or 0, []).append((frame.t_seconds, person))
    walkers = [t for t in tracks.values() if len(t) >= 20 and _path(t) > 100]
    lags = [_lag(t) for t in walkers]
    print(f"lag behind people who walk, {len(lags)} tracks: median {np.median(lags):.2f} frames, most {max(lags):.2f} frames")
    for speed in (0.25, 0.5, 1.0, 2.0):
        print(f"lag behind a ramp of {speed} sizes a second: {_ramp_lag(speed) * _RATE:.2f} frames")


async def _still(session: PoseSession, frame: Frame) -> list[tuple[float, Pose]]:
    rng = np.random.default_rng(0)
    film = []
    for i in range(60):
        noisy = np.clip(frame.pixels + rng.normal(0, _NOISE, frame.pixels.shape), 0, 255).astype(np.uint8)
        film.append(VideoFrame(i, i / _RATE, Frame(noisy)))
    answers = await through(session, film)
    seen: dict[int, list[tuple[float, Pose]]] = {}
    for i, people in enumerate(answers):
        for person in people:
            seen.setdefault(person.track_id or 0, []).append((i / _RATE, person))
    return max(seen.values(), key=len)


def _smoothed(track: list[tuple[float, Pose]]) -> tuple[_Places, _Places]:
    """Raw and smoothed places, (N, K, 2)."""
    smoother = KeypointSmoother(len(track[0][1].keypoints.scores))
    smooth = [smoother.step(t, person.keypoints, size_of(person.box_xywh)).xy for t, person in track]
    return np.array([p.keypoints.xy for _, p in track], float), np.array(smooth, float)


def _print_jitter(what: str, track: list[tuple[float, Pose]]) -> None:
    """Jitter: root mean square of a keypoint's second difference, which a steady movement does not have; median over keypoints."""
    raw, smooth = _smoothed(track)
    counted = np.mean([p.keypoints.scores for _, p in track], 0) >= _SHOWN

    def jitter(places: _Places, order: int) -> float:
        return float(np.median(np.sqrt((np.diff(places, order, axis=0) ** 2).sum(-1).mean(0))[counted]))

    for order, word in ((1, "from frame to frame"), (2, "second difference")):
        before, after = jitter(raw, order), jitter(smooth, order)
        print(f"{what}, {counted.sum()} keypoints: {word} {before:.2f} px raw, {after:.2f} px smoothed, ratio {after / before:.2f}")


def _path(track: list[tuple[float, Pose]]) -> float:
    """Pixels from beginning to end."""
    return float(np.linalg.norm(track[-1][1].box_xywh[:2] - track[0][1].box_xywh[:2]))


def _lag(track: list[tuple[float, Pose]]) -> float:
    """Frames by which the raw middle of a person must be delayed to fit the smoothed one best."""
    raw, smooth = (places.mean(1) for places in _smoothed(track))
    times = np.array([t for t, _ in track])
    delays = np.arange(0, 0.31, 0.005)
    inside = times >= times[0] + delays[-1]
    errors = []
    for delay in delays:
        moved = np.stack([np.interp(times[inside] - delay, times, raw[:, axis]) for axis in (0, 1)], 1)
        errors.append(((moved - smooth[inside]) ** 2).sum())
    return float(delays[int(np.argmin(errors))] * _RATE)


def _ramp_lag(sizes_a_second: float) -> float:
    """Seconds behind someone of size 100 pixels who has moved evenly for four seconds."""
    smoother, speed = KeypointSmoother(1), 100 * sizes_a_second
    score: FloatArray = np.full(1, 0.6, np.float32)
    place = 0.0
    for i in range(41):
        place = float(smoother.step(i / _RATE, Keypoints(np.array([[speed * i / _RATE, 0]], np.float32), score), 100).xy[0, 0])
    return (speed * 40 / _RATE - place) / speed
