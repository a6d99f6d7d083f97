"""The events of made motion."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from posewire.events.watcher import EventWatcher
from posewire.pipeline.tracking.tracker import TrackPolicy
from posewire.schemas.events import EVENT, Crossed, Dwelled, FallSuspected, HandRaised, Left, Repetition, parse_rules
from posewire.types import Pose, PoseResult
from tests.events.made import FPS, HEIGHT, NAMES, WIDTH, events_of, kinds, person

ZONE = json.dumps([{"kind": "zone", "name": "mat", "polygon": [[0.4, 0.5], [0.6, 0.5], [0.6, 1], [0.4, 1]], "dwell_s": 2}])
LINE = '[{"kind": "line", "name": "gate", "start": [0.5, 0.0], "end": [0.5, 1.0]}]'
HAND = '[{"kind": "raised_hand", "name": "hand"}]'
FALL = '[{"kind": "fall", "name": "fall"}]'
SQUATS = '[{"kind": "repetition", "name": "squats", "joint": ["left_hip", "left_knee", "left_ankle"]}]'


def walk(x0: float, x1: float, seconds: float) -> list[list[Pose]]:
    return [[person(x)] for x in np.linspace(x0, x1, round(seconds * FPS))]


def still(seconds: float, **pose: object) -> list[list[Pose]]:
    return [[person(**pose)]] * round(seconds * FPS)  # type: ignore[arg-type]


class TestZone:
    def test_who_walks_through_enters_and_leaves_once(self) -> None:
        entered, left = events_of(ZONE, walk(100, 540, 4))
        assert (entered.event, entered.rule, entered.track_id) == ("entered", "mat", 1)
        assert isinstance(left, Left)
        assert not left.lost
        assert left.seconds == pytest.approx(128 / 440 * 4, abs=0.1)  # the zone is 128 pixels wide

    def test_who_stays_dwells_once(self) -> None:
        events = events_of(ZONE, walk(100, 320, 2) + still(5) + walk(320, 540, 2))
        assert kinds(events) == ["entered", "dwelled", "left"]
        dwelled = events[1]
        assert isinstance(dwelled, Dwelled)
        assert dwelled.seconds == pytest.approx(2, abs=0.1)

    def test_who_trembles_on_the_border_makes_no_events(self) -> None:
        border = 0.4 * WIDTH
        frames = [[person(border + (4 if i % 4 < 2 else -4))] for i in range(100)]
        assert events_of(ZONE, frames) == []

    def test_who_vanishes_inside_has_left_and_was_lost(self) -> None:
        entered, left = events_of(ZONE, [*still(1.5), *([[]] * (3 * FPS))])
        assert entered.event == "entered"
        assert isinstance(left, Left)
        assert left.lost
        assert left.seconds == pytest.approx(1.5, abs=0.1)

    def test_a_short_gap_is_no_loss(self) -> None:
        assert kinds(events_of(ZONE, still(1) + [[]] * (FPS // 2) + still(0.8))) == ["entered", "dwelled", "left"]

    def test_the_end_of_the_video_ends_the_stay(self) -> None:
        assert kinds(events_of(ZONE, still(1))) == ["entered", "left"]

    def test_the_centre_is_another_point_than_the_feet(self) -> None:
        high = json.dumps([{"kind": "zone", "name": "up", "polygon": [[0, 0], [1, 0], [1, 0.7], [0, 0.7]], "point": "centre"}])
        assert kinds(events_of(high, still(1))) == ["entered", "left"]
        assert events_of(high.replace("centre", "feet"), still(1)) == []

    @pytest.mark.parametrize(("x", "feet_y"), [(320, 560), (-40, 400), (680, 400)])
    def test_who_is_partly_beyond_the_edge_of_the_frame_is_inside_where_they_are_seen(self, x: float, feet_y: float) -> None:
        everywhere = json.dumps([{"kind": "zone", "name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}])
        assert kinds(events_of(everywhere, still(1, x=x, feet_y=feet_y))) == ["entered", "left"]

    def test_who_is_hidden_as_long_as_the_tracker_remembers_them_has_not_left(self) -> None:
        hidden: list[list[Pose]] = [[]] * round(0.9 * TrackPolicy().lost_s * FPS)
        assert kinds(events_of(ZONE, still(1) + hidden + still(1))) == ["entered", "dwelled", "left"]

    def test_everyone_has_their_own_events(self) -> None:
        frames = [[person(x, track_id=1), person(640 - x, track_id=2)] for x in np.linspace(100, 540, 4 * FPS)]
        events = events_of(ZONE, frames)
        assert sorted((e.track_id, e.event) for e in events) == [(1, "entered"), (1, "left"), (2, "entered"), (2, "left")]
        assert [e.time_s for e in events] == sorted(e.time_s for e in events)

    def test_people_without_identity_are_left_out(self) -> None:
        assert events_of(ZONE, still(2, track_id=None)) == []


class TestLine:
    @pytest.mark.parametrize(("x0", "x1", "direction"), [(200, 440, "right_to_left"), (440, 200, "left_to_right")])
    def test_the_direction_is_that_of_someone_who_looks_along_the_line(self, x0: float, x1: float, direction: str) -> None:
        [crossed] = events_of(LINE, walk(x0, x1, 2))
        assert isinstance(crossed, Crossed)
        assert crossed.direction == direction

    def test_who_stands_on_the_line_does_not_cross_it(self) -> None:
        assert events_of(LINE, [[person(320 + (6 if i % 2 else -6))] for i in range(100)]) == []

    def test_who_turns_back_on_the_line_has_not_crossed(self) -> None:
        assert events_of(LINE, walk(200, 324, 1) + walk(324, 200, 1)) == []

    def test_to_and_fro_are_two(self) -> None:
        assert kinds(events_of(LINE, walk(200, 440, 2) + walk(440, 200, 2))) == ["crossed", "crossed"]

    def test_a_step_over_the_margin_in_one_frame_counts(self) -> None:
        assert kinds(events_of(LINE, [[person(200)], [person(440)]])) == ["crossed"]

    def test_who_crosses_behind_a_pillar_has_crossed(self) -> None:
        way = walk(200, 440, 3)
        hidden = [people if i < FPS or i > 2.5 * FPS else [] for i, people in enumerate(way)]
        assert kinds(events_of(LINE, hidden)) == ["crossed"]

    def test_two_who_change_their_identities_on_the_line_have_turned_back(self) -> None:
        # The rules believe the tracker: neither identity is seen on both sides.
        there, back = walk(200, 440, 2), walk(440, 200, 2)
        met = len(there) // 2
        frames = [
            [replace(a, track_id=1 if i < met else 2), replace(b, track_id=2 if i < met else 1)]
            for i, ([a], [b]) in enumerate(zip(there, back, strict=True))
        ]
        assert events_of(LINE, frames) == []

    def test_who_passes_beside_the_line_does_not_cross_it(self) -> None:
        short = '[{"kind": "line", "name": "gate", "start": [0.5, 0.0], "end": [0.5, 0.5]}]'
        assert events_of(short, walk(200, 440, 2)) == []


class TestRaisedHand:
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_up_and_down(self, side: str) -> None:
        events = events_of(HAND, still(1) + still(1, hands=[side]) + still(1))
        assert kinds(events) == ["hand_raised", "hand_lowered"]
        assert isinstance(events[0], HandRaised)
        assert events[0].side == side
        assert events[0].time_s == pytest.approx(1.5, abs=0.06)

    def test_a_quick_move_is_none(self) -> None:
        assert events_of(HAND, still(1) + still(0.3, hands=["left"]) + still(1)) == []

    def test_a_wrist_that_is_not_seen_changes_nothing(self) -> None:
        events = events_of(HAND, still(1, hands=["left"]) + still(3, unseen=["left_wrist"]))
        assert kinds(events) == ["hand_raised"]


class TestFall:
    FALLING = tuple([person(tilt_deg=tilt)] for tilt in np.linspace(0, 88, FPS))  # one second

    def test_who_falls_and_lies_is_suspected(self) -> None:
        [fall] = events_of(FALL, [*still(2), *self.FALLING, *still(3, tilt_deg=88)])
        assert isinstance(fall, FallSuspected)
        assert fall.tilt_deg == pytest.approx(88, abs=1)

    def test_who_gets_up_is_told(self) -> None:
        frames = [*still(2), *self.FALLING, *still(3, tilt_deg=88), *self.FALLING[::-1], *still(2)]
        assert kinds(events_of(FALL, frames)) == ["fall_suspected", "got_up"]

    def test_who_lies_down_slowly_has_not_fallen(self) -> None:
        slowly = [[person(tilt_deg=tilt)] for tilt in np.linspace(0, 88, 8 * FPS)]
        assert events_of(FALL, [*still(1), *slowly, *still(3, tilt_deg=88)]) == []

    def test_who_bends_for_a_moment_has_not_fallen(self) -> None:
        assert events_of(FALL, [*still(1), *self.FALLING, *self.FALLING[::-1], *still(1)]) == []

    def test_who_was_never_upright_has_not_fallen(self) -> None:
        assert events_of(FALL, still(5, tilt_deg=88)) == []

    def test_hidden_hips_say_nothing(self) -> None:
        assert events_of(FALL, [*still(2), *self.FALLING, *still(3, tilt_deg=88, unseen=["left_hip"])]) == []


class TestRepetition:
    @staticmethod
    def squats(number: int, depth: float = 1, seconds: float = 1.5) -> list[Sequence[Pose]]:
        t = np.arange(round(number * seconds * FPS)) / FPS
        return [[person(squat=depth * s)] for s in (1 - np.cos(2 * np.pi * t / seconds)) / 2]

    def test_squats_are_counted(self) -> None:
        events = events_of(SQUATS, [*still(0.5), *self.squats(5), *still(0.5)])
        assert [event.count for event in events if isinstance(event, Repetition)] == [1, 2, 3, 4, 5]

    def test_who_comes_bent_and_straightens_has_done_none(self) -> None:
        assert events_of(SQUATS, still(1, squat=1) + still(1)) == []
        assert kinds(events_of(SQUATS, still(1, squat=1) + still(1) + still(1, squat=1) + still(1))) == ["repetition"]

    def test_limbs_of_a_few_pixels_say_nothing(self) -> None:
        small = [[person(height=25, squat=s)] for [s] in zip((0, 1) * 5, strict=True) for _ in range(FPS)]
        assert events_of(SQUATS, small) == []

    def test_half_squats_are_none(self) -> None:
        assert events_of(SQUATS, [*still(0.5), *self.squats(5, depth=0.3), *still(0.5)]) == []

    def test_noise_is_no_repetition(self) -> None:
        noise = np.random.default_rng(0).uniform(0, 1, 200)
        wild = [[person(squat=float(s > 0.5))] for s in noise]
        counted = kinds(events_of(SQUATS, wild, fps=100))  # states that hold for 0.15 s are rare
        assert len(counted) <= 1


def test_the_clock_of_a_new_video_begins_anew() -> None:
    watcher = EventWatcher(parse_rules(ZONE), NAMES)
    result = PoseResult(WIDTH, HEIGHT, (person(),))
    first = [e for t in (100.0, 100.5, 101.0) for e in watcher.step(result, t)]
    second = [e for t in (0.0, 0.5) for e in watcher.step(result, t)]
    assert kinds(first) == ["entered"]
    assert kinds(second) == ["left", "entered"]


def test_another_size_of_the_frame_is_a_new_video() -> None:
    # The tracker begins anew then, and gives the first identity again.
    watcher = EventWatcher(parse_rules(LINE), NAMES)
    for t, x in ((0.0, 200.0), (0.5, 200.0)):
        assert watcher.step(PoseResult(WIDTH, HEIGHT, (person(x),)), t) == []
    assert watcher.step(PoseResult(2 * WIDTH, 2 * HEIGHT, (person(900, 800),)), 1.0) == []


def test_a_decoder_that_begins_anew_with_the_same_time_is_a_new_video() -> None:
    watcher = EventWatcher(parse_rules(LINE), NAMES)
    assert watcher.step(PoseResult(WIDTH, HEIGHT, (person(200),)), 0.0) == []
    assert watcher.step(PoseResult(WIDTH, HEIGHT, (person(440),)), 0.0) == []


def test_frames_that_are_missing_for_seconds_end_the_stay_of_those_who_are_gone() -> None:
    watcher = EventWatcher(parse_rules(ZONE), NAMES)
    events = [e for i in range(2 * FPS) for e in watcher.step(PoseResult(WIDTH, HEIGHT, (person(),)), i / FPS)]
    events += watcher.step(PoseResult(WIDTH, HEIGHT, (person(track_id=2),)), 12.0)
    events += watcher.step(PoseResult(WIDTH, HEIGHT, (person(track_id=2),)), 12.5)
    assert [(e.track_id, e.event) for e in events] == [(1, "entered"), (1, "left"), (2, "entered")]
    left = events[1]
    assert isinstance(left, Left)
    assert left.lost
    assert left.seconds == pytest.approx(2, abs=0.1)  # and not the time without frames


def test_the_state_of_a_zone_is_that_of_its_events_whatever_the_frames_are() -> None:
    """Identities come, go and come again, clocks go back, frames are missing and change their size."""
    random = np.random.default_rng(0)
    for _ in range(100):
        watcher = EventWatcher(parse_rules(ZONE), NAMES)
        inside: set[int] = set()
        dwelled: set[int] = set()
        t, size = 0.0, 1
        for _ in range(150):
            t = random.choice([t + 0.05, t + 0.1, t + random.uniform(0, 6), 0.0], p=[0.45, 0.45, 0.08, 0.02])
            size = random.choice([size, 3 - size], p=[0.99, 0.01])
            who = [i for i in range(1, 4) if random.random() < 0.8]
            people = tuple(person(size * random.choice([320, 320, 320, 100]), size * 400, size * 200, track_id=i) for i in who)
            for event in watcher.step(PoseResult(size * WIDTH, size * HEIGHT, people), t):
                if event.event == "entered":
                    assert event.track_id not in inside
                    inside.add(event.track_id)
                elif event.event == "dwelled":
                    assert event.track_id in inside - dwelled
                    dwelled.add(event.track_id)
                else:
                    assert isinstance(event, Left)
                    assert event.seconds >= 0
                    inside.remove(event.track_id)
                    dwelled.discard(event.track_id)
            assert watcher.zones() == {"mat": len(inside)}
        assert {event.track_id for event in watcher.end()} == inside


def test_an_event_goes_through_json() -> None:
    for event in events_of(ZONE, walk(100, 540, 4)):
        assert EVENT.validate_json(event.model_dump_json()) == event
