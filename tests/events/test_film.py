"""The events of people who were filmed, against what a person sees in the film: vtest.avi of Debian's package opencv-doc.

It has 768 x 576 pixels and 10 frames/s. The frames were looked at one by one, with the line and the zones drawn on them. Every number of a
frame below was read off in this way.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from posewire import PosePipeline
from posewire.events.watcher import EventWatcher
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.schemas.events import Crossed, Dwelled, Entered, Event, Left, parse_rules
from posewire.video.reading import VideoReader

FILM = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
FIRST, END = 480, 755  # frames; 27.5 s
FPS = 10

pytestmark = pytest.mark.skipif(not FILM.is_file(), reason="vtest.avi is missing: apt-get install opencv-doc")

RULES = [
    # Across the footpath at the left; who looks along it, from the top of the frame, has the right of the frame on the left hand.
    {"kind": "line", "name": "path", "start": [0.375, 0.3], "end": [0.375, 0.53]},
    # The lawn in front, down to the lower edge of the frame.
    {"kind": "zone", "name": "lawn", "polygon": [[0, 0.45], [0.3, 0.53], [0.55, 0.7], [1, 0.96], [1, 1], [0, 1]], "dwell_s": 12},
    # A part of the road at the right.
    {"kind": "zone", "name": "road", "polygon": [[0.8, 0.6], [0.945, 0.6], [0.945, 0.765], [0.8, 0.765]], "dwell_s": 5},
    {"kind": "raised_hand", "name": "hand"},
    {"kind": "fall", "name": "fall"},
    *(
        {"kind": "repetition", "name": f"{side} {name}", "joint": [f"{side}_{joint}" for joint in joints]}
        for side in ("left", "right")
        for name, joints in (("squat", ("hip", "knee", "ankle")), ("curl", ("shoulder", "elbow", "wrist")))
    ),
]

# The frame in which someone's feet cross the line, who it is, and the direction.
CROSSINGS = [
    (507, "red jacket", "left_to_right"),
    (581, "leather jacket", "left_to_right"),
    (659, "black jacket, jeans", "left_to_right"),
    (660, "red jacket", "right_to_left"),
    (680, "leather jacket", "right_to_left"),
    (701, "blue jacket", "left_to_right"),
    (723, "black jacket, jeans", "right_to_left"),
    (738, "red and navy jacket", "left_to_right"),
]


class Seen(NamedTuple):
    frame: int
    event: Event


@pytest.fixture(scope="module")
def film() -> list[Seen]:
    """The events of the film by the shipped models."""
    tracker = PosePipeline.load(device="cpu").tracker()
    watcher = EventWatcher(parse_rules(json.dumps(RULES)), KEYPOINT_SETS["coco-17"].names)
    found = []
    with VideoReader(FILM, max_pixels=1_000_000) as reader:
        for read in reader:
            if read.index >= END:
                break
            if read.index >= FIRST:
                result = tracker(read.frame.pixels, read.t_seconds)
                found += [Seen(read.index, event) for event in watcher.step(result, read.t_seconds)]
    return found + [Seen(END, event) for event in watcher.end()]


def of(film: list[Seen], rule: str) -> list[Seen]:
    return [seen for seen in film if seen.event.rule == rule]


def test_everyone_who_crosses_the_line_does_so_once_and_in_their_direction(film: list[Seen]) -> None:
    crossed = [(seen.frame, seen.event.direction) for seen in film if isinstance(seen.event, Crossed)]
    assert len(crossed) == len(CROSSINGS)
    # Two people meet on the line in frame 660, so that their order may be another.
    for frame, who, direction in CROSSINGS:
        assert any(-3 <= at - frame <= 8 and d == direction for at, d in crossed), f"{who} in frame {frame}: {crossed}"


def test_two_people_walk_onto_the_lawn_and_off_it(film: list[Seen]) -> None:
    # Both come at the lower right edge in frames 505 to 511, the woman behind the man. He leaves in 598, she in 741. The feet of both are
    # often below the frame, and hers are for three seconds.
    entered = [seen for seen in of(film, "lawn") if isinstance(seen.event, Entered)]
    left = [seen for seen in of(film, "lawn") if isinstance(seen.event, Left) and not seen.event.lost]
    assert 505 <= entered[0].frame <= 515
    assert [seen.frame for seen in left] == [pytest.approx(598, abs=8), pytest.approx(741, abs=8)]
    # One more has been there for a moment: the tracker takes the woman for two people when her feet are in the shadow.
    assert 2 <= len(entered) <= 3
    assert {seen.event.track_id for seen in left} <= {seen.event.track_id for seen in entered[:2]}


def test_the_one_who_stays_on_the_lawn_dwells(film: list[Seen]) -> None:
    [dwelled] = [seen for seen in of(film, "lawn") if isinstance(seen.event, Dwelled)]
    [_, woman] = [seen for seen in of(film, "lawn") if isinstance(seen.event, Left) and not seen.event.lost]
    assert isinstance(woman.event, Left)
    # The two may change their identities while they are behind one another, and with these the times of their stays.
    assert dwelled.event.track_id == woman.event.track_id
    assert 18 <= woman.event.seconds <= 24.5


def test_the_one_who_stands_on_the_road_dwells_and_who_passes_does_not(film: list[Seen]) -> None:
    # A man stands there from frame 492 to 623. Another passes close before him from 504 to 517, and the two change their identities. A
    # third passes from 657 to 667.
    road = of(film, "road")
    [dwelled] = [seen for seen in road if isinstance(seen.event, Dwelled)]
    left = {seen.event.track_id: seen for seen in road if isinstance(seen.event, Left)}
    stood = left[dwelled.event.track_id]
    assert isinstance(stood.event, Left)
    assert stood.frame == pytest.approx(623, abs=10)
    assert 10 <= stood.event.seconds <= 13.5
    passed = [seen for seen in road if seen.frame > 650]
    assert [seen.event.event for seen in passed] == ["entered", "left"]
    assert [seen.frame for seen in passed] == [pytest.approx(657, abs=8), pytest.approx(667, abs=8)]
    # There are three; the crossing may give one identity more.
    assert 3 <= sum(isinstance(seen.event, Entered) for seen in road) <= 4
    assert sum(isinstance(seen.event, Entered) for seen in road) == len(left)


def test_nobody_falls_raises_a_hand_or_does_squats(film: list[Seen]) -> None:
    # A man holds a sheet over his head from frame 610 to 613, which is less than the half second of the rule.
    rules = {"fall", "hand", "left squat", "right squat"}
    assert [seen for seen in film if seen.event.rule in rules] == []


def test_few_walkers_are_taken_for_someone_who_trains_the_arms(film: list[Seen]) -> None:
    # 13 people walk and talk for 27 s, and bend their arms; nobody trains.
    curls = [seen for seen in film if seen.event.rule.endswith("curl")]
    assert len(curls) <= 8
    assert max((seen.event.count for seen in curls if seen.event.event == "repetition"), default=0) <= 2


def test_the_events_are_in_the_order_of_the_frames(film: list[Seen]) -> None:
    times = [seen.event.time_s for seen in film]
    assert times == sorted(times)
    assert all(seen.event.time_s == pytest.approx(min(seen.frame, END - 1) / FPS, abs=1e-6) for seen in film)
