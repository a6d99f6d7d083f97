"""Identities over made-up videos: who crosses, hides, comes, goes, and how often the detector is asked."""

import numpy as np
import pytest

from posewire.pipeline.tracking.tracker import Tracker, TrackPolicy, person_of
from posewire.types import Detections, Keypoints, Pose
from tests.imaging.walkers import SIGMAS, SIZE, Film, Walker, frames_at


def walking(x: float, speed: float, y: float = 240) -> Walker:
    """From x, pixels, at a speed in pixels a second."""
    return Walker(lambda t: (x + speed * t, y))


def identities(answers: list[dict[int, int]], walker: int) -> set[int]:
    return {answer[walker] for answer in answers if walker in answer}


def test_everyone_is_answered_from_the_first_frame_on_with_an_identity_of_their_own() -> None:
    answers = Film([walking(100, 0), walking(300, 15), walking(500, -15)]).run(frames_at(10, 5))
    assert all(len(answer) == 3 for answer in answers)
    assert [len(identities(answers, i)) for i in range(3)] == [1, 1, 1]
    assert len(set(answers[0].values())) == 3


@pytest.mark.parametrize("rate", [5, 10, 30])
def test_people_who_cross_keep_their_identities(rate: float) -> None:
    film = Film([walking(100, 80), walking(540, -80, y=262)])
    answers = film.run(frames_at(rate, 5))
    assert answers[-1] == answers[0]
    assert answers[-1][0] != answers[-1][1]


@pytest.mark.parametrize("frames", [1, 5, 15])
def test_someone_who_is_hidden_for_some_frames_comes_back_with_the_same_identity(frames: int) -> None:
    hidden_until = 2 + frames / 10
    walker = Walker(lambda t: (150 + 50 * t, 240.0), seen=lambda t: not 2 <= t < hidden_until - 0.01)
    answers = Film([walker, walking(500, 0)]).run(frames_at(10, 5))
    assert [0 in answer for answer in answers[20 : 20 + frames]] == [False] * frames
    assert 0 in answers[20 + frames + 2]  # the detector is asked soon, though not on every frame
    assert len(identities(answers, 0)) == 1


def test_someone_who_is_away_for_long_is_someone_new() -> None:
    walker = Walker(lambda t: (300.0, 240.0), seen=lambda t: not 2 <= t < 6)
    answers = Film([walker]).run(frames_at(10, 8))
    assert len(identities(answers[:20], 0)) == 1
    assert not any(answers[21:60])
    assert identities(answers[62:], 0).isdisjoint(identities(answers[:20], 0))


def test_someone_who_comes_in_is_found_within_the_detectors_interval() -> None:
    late = Walker(lambda t: (500.0, 240.0), seen=lambda t: t >= 2.05)
    answers = Film([walking(100, 10), late], TrackPolicy(detect_every=5)).run(frames_at(10, 4))
    assert next(i for i, answer in enumerate(answers) if 1 in answer) <= 20 + 5
    assert len(identities(answers, 1)) == 1


def test_someone_who_walks_out_is_gone_and_the_number_is_not_given_again() -> None:
    leaver, comer = walking(560, 100), Walker(lambda t: (40 + 60 * (t - 3), 240.0), seen=lambda t: t >= 3)
    answers = Film([leaver, comer]).run(frames_at(10, 6))
    assert not any(0 in answer for answer in answers[12:])
    assert identities(answers, 0).isdisjoint(identities(answers, 1))


def test_dropped_frames_change_no_identity() -> None:
    times = [t for i, t in enumerate(frames_at(20, 6)) if i % 7 in (0, 1, 4)]
    answers = Film([walking(100, 60), walking(560, -60, y=262)]).run(times)
    assert answers[-1] == answers[0]


def test_the_detector_looks_seldom_while_nothing_happens_and_sooner_when_people_overlap() -> None:
    apart = Film([walking(150, 0), walking(450, 0)], TrackPolicy(detect_every=10, detect_every_s=100))
    close = Film([walking(300, 0), walking(320, 0)], TrackPolicy(detect_every=10, detect_every_s=100))
    times = frames_at(10, 10)
    apart.run(times)
    close.run(times)
    assert apart.looks <= 13
    assert close.looks > 2 * apart.looks


def test_an_empty_street_is_watched_on_every_frame() -> None:
    film = Film([])
    assert film.run(frames_at(10, 1)) == [{}] * 10
    assert film.looks == 10


def test_a_slow_camera_is_looked_at_by_the_clock() -> None:
    film = Film([walking(300, 0)], TrackPolicy(detect_every=100, detect_every_s=1.0))
    film.run(float(t) for t in range(10))
    assert film.looks == 10


def test_a_detection_that_is_not_seen_again_is_not_followed() -> None:
    ghost = Walker(lambda t: (300.0, 240.0), seen=lambda t: t < 0.05)
    answers = Film([ghost]).run(frames_at(10, 2))
    assert answers[0]
    assert not any(answers[1:])


def test_a_faint_detection_keeps_a_person_but_begins_none() -> None:
    tracker = Tracker(SIGMAS, TrackPolicy(min_detection_score=0.4, detect_every=1))
    walker = walking(300, 0)
    shown = []
    for i, score in enumerate([0.25, 0.8, 0.25, 0.25]):
        box = walker.box(0)
        found = Detections(np.array([[*box[:2], *(box[:2] + box[2:])]], np.float32), np.array([score], np.float32))
        candidates = tracker.candidates(i / 10, found, SIZE)
        poses = [Pose(b, 0.8, walker.keypoints(0)) for b in candidates.boxes_xywh]
        tracks = tracker.update(i / 10, poses, candidates, SIZE, detected=True)
        shown.append([person_of(track) for track in tracks])
    assert [len(people) for people in shown] == [0, 1, 1, 1]
    assert {people[0].track_id for people in shown[1:]} == {1}
    assert shown[3][0].score == pytest.approx(0.25 * 0.8)


def test_no_more_people_than_asked_for() -> None:
    film = Film([walking(60 + 100 * i, 0) for i in range(6)], TrackPolicy(max_people=4))
    answers = film.run(frames_at(10, 2))
    assert {len(answer) for answer in answers} == {4}
    assert answers[-1] == answers[0]


def test_keypoints_that_say_nothing_are_no_person() -> None:
    tracker = Tracker(SIGMAS, TrackPolicy(detect_every=100, detect_every_s=100))
    walker = walking(300, 0)
    box = walker.box(0)
    found = Detections(np.array([[*box[:2], *(box[:2] + box[2:])]], np.float32), np.array([0.9], np.float32))
    for i, (detections, score) in enumerate([(found, 0.8), (found, 0.8), (None, 0.8), (None, 0.05)]):
        candidates = tracker.candidates(i / 10, detections, SIZE)
        poses = [Pose(b, 0.5, Keypoints(walker.keypoints(0).xy, np.full(17, score, np.float32))) for b in candidates.boxes_xywh]
        tracks = tracker.update(i / 10, poses, candidates, SIZE, detected=detections is not None)
        assert len(tracks) == (1 if score > 0.5 else 0)
