import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.errors import PosewireError
from posewire.events.watcher import EventWatcher
from posewire.schemas.events import parse_rules
from posewire.schemas.sinks import State, parse_sinks
from posewire.sinks.base import Message
from posewire.sinks.feed import Feed, Subscription
from posewire.sinks.opening import subscribe
from posewire.types import Pose, PoseResult
from tests.events.made import FPS, HEIGHT, NAMES, WIDTH, person

RULES = '[{"kind": "zone", "name": "mat", "polygon": [[0.4, 0.5], [0.6, 0.5], [0.6, 1], [0.4, 1]]}]'


async def run(folder: Path, frames: list[list[Pose]], send: list[str]) -> list[dict[str, Any]]:
    """What a file gets of these frames."""
    out = folder / "out.ndjson"
    sinks = await subscribe(parse_sinks(json.dumps([{"kind": "file", "path": str(out), "send": send}])), "hall", ("mat",), folder, print)
    feed = Feed("hall", EventWatcher(parse_rules(RULES), NAMES), sinks)
    for i, people in enumerate(frames):
        await feed.step(PoseResult(WIDTH, HEIGHT, tuple(people)), State(time_s=i, people=-1, zones={}), i / FPS)
    await feed.close()
    lines = await asyncio.to_thread(out.read_text)
    return [json.loads(line) for line in lines.splitlines()]


WALK = [[person(x)] for x in np.linspace(100, 540, 4 * FPS)]


async def test_a_sink_gets_the_kinds_that_it_wants(tmp_path: Path) -> None:
    events = await run(tmp_path / "a", WALK, ["event"])
    assert [(m["kind"], m["message"]["event"]) for m in events] == [("event", "entered"), ("event", "left")]
    results = await run(tmp_path / "b", WALK, ["result"])
    assert len(results) == len(WALK)
    assert {m["camera"] for m in results} == {"hall"}


async def test_the_state_is_sent_when_it_changes(tmp_path: Path) -> None:
    found = await run(tmp_path, [*WALK, *([[]] * 2 * FPS)], ["state"])
    assert [(m["message"]["people"], m["message"]["zones"]["mat"]["people"]) for m in found] == [(1, 0), (1, 1), (1, 0), (0, 0)]


async def test_someone_who_flickers_changes_no_state(tmp_path: Path) -> None:
    frames = [[person(100)] if i % 10 else [] for i in range(1, 100)]
    assert [m["message"]["people"] for m in await run(tmp_path, frames, ["state"])] == [1]


async def test_if_one_sink_cannot_be_opened_none_stays_open(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    url = "http://127.0.0.1:9/in"
    specs = parse_sinks(json.dumps([{"kind": "webhook", "url": url}, {"kind": "file", "path": str(tmp_path / "folder")}]))
    with pytest.raises(PosewireError, match="cannot be written"):
        await subscribe(specs, "hall", (), tmp_path / "spools", print)
    [again] = await subscribe(specs[:1], "hall", (), tmp_path / "spools", print)  # its spool is free
    await again.sink.close()


async def test_a_sink_that_fails_takes_nothing_from_the_others(tmp_path: Path) -> None:
    sinks = [{"kind": "file", "path": str(tmp_path / name), "send": ["result", "event"]} for name in ("full", "good")]
    opened = await subscribe(parse_sinks(json.dumps(sinks)), "hall", (), tmp_path, print)
    feed = Feed("hall", EventWatcher(parse_rules(RULES), NAMES), opened)
    await opened[0].sink.close()  # it can be written no more
    for i, people in enumerate(WALK):
        with pytest.raises(PosewireError, match="full cannot be written"):
            await feed.step(PoseResult(WIDTH, HEIGHT, tuple(people)), State(time_s=i, people=-1, zones={}), i / FPS)
    lines = (await asyncio.to_thread((tmp_path / "good").read_text)).splitlines()
    assert len(lines) == len(WALK) + 2
    assert [m["message"]["event"] for m in map(json.loads, lines) if m["kind"] == "event"] == ["entered", "left"]


class SlowSink:
    """Takes a message when it may."""

    def __init__(self) -> None:
        self.asked, self.allowed = asyncio.Event(), asyncio.Event()
        self.taken: list[Message] = []

    async def put(self, message: Message) -> None:
        self.asked.set()
        await self.allowed.wait()
        self.taken.append(message)

    async def close(self) -> None:
        pass


async def test_a_cancellation_keeps_a_message_from_no_sink() -> None:
    """As a change of the camera and SIGTERM cancel it."""
    sinks = [SlowSink(), SlowSink()]
    feed = Feed("hall", EventWatcher((), NAMES), [Subscription(sink, frozenset({"result", "state"})) for sink in sinks])
    step = asyncio.create_task(feed.step(PoseResult(WIDTH, HEIGHT, ()), State(time_s=0, people=-1, zones={}), 0.0))
    await sinks[0].asked.wait()
    step.cancel()
    for sink in sinks:
        sink.allowed.set()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert [[m.kind for m in sink.taken] for sink in sinks] == [["result", "state"]] * 2
