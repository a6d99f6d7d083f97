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
from posewire.sinks.feed import Feed
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
