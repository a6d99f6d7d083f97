"""Sinks against real receivers, which go away and come back."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posewire.errors import BadParameter, PosewireError
from posewire.schemas.events import Crossed
from posewire.schemas.sinks import Delivery, parse_sinks
from posewire.schemas.sinks import Sink as SinkSpec
from posewire.sinks.base import Message, Sink
from posewire.sinks.opening import open_sink
from posewire.sinks.spooled import SpooledSink
from tests.sinks.receivers import Broker, Hook, running


def spec(**fields: object) -> SinkSpec:
    [found] = parse_sinks(json.dumps([fields]))
    return found


def message(number: int, kind: str = "event") -> Message:
    crossed = Crossed(rule="gate", time_s=number, track_id=number, direction="left_to_right")
    return Message.of("front door", kind, crossed)  # type: ignore[arg-type]


def opened(sink: SinkSpec, folder: Path, notes: list[str] | None = None) -> Sink:
    return open_sink(sink, "front door", ("mat",), folder / "spools", (notes if notes is not None else []).append)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110 - what is waited for is in another process or thread
            await asyncio.sleep(0.02)


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [m["message"]["track_id"] for m in messages]


class TestWebhook:
    async def test_messages_arrive_in_order_and_signed(self, tmp_path: Path) -> None:
        hook = Hook()
        with running(hook):
            sink = opened(spec(kind="webhook", url=f"http://127.0.0.1:{hook.port}/in", secret="s3cret"), tmp_path)
            for i in range(10):
                await sink.put(message(i))
            await until(lambda: len(hook.requests) == 10)
            await sink.close()
        assert numbers(hook.messages) == list(range(10))
        headers, body = hook.requests[0]
        expected = hmac.new(b"s3cret", headers["x-posewire-timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["x-posewire-signature"] == f"sha256={expected}"
        first = hook.messages[0]
        assert (first["camera"], first["kind"], first["attempt"], first["message"]["event"]) == ("front door", "event", 1, "crossed")
        assert headers["x-posewire-delivery"] == first["id"]

    async def test_nothing_is_lost_while_the_receiver_is_away(self, tmp_path: Path) -> None:
        hook, notes = Hook(), list[str]()
        sink = opened(spec(kind="webhook", url=f"http://127.0.0.1:{hook.port}/in"), tmp_path, notes)
        for i in range(20):
            await sink.put(message(i))
        await until(lambda: bool(notes))
        with running(hook):
            await until(lambda: len(hook.requests) == 20)
            await sink.close()
        assert numbers(hook.messages) == list(range(20))
        assert hook.messages[0]["attempt"] > 1  # an earlier attempt may have arrived
        assert hook.messages[1]["attempt"] == 1
        assert "does not answer" in notes[0]
        assert notes[-1].endswith("it takes messages again")

    async def test_what_waits_is_delivered_after_a_restart(self, tmp_path: Path) -> None:
        hook = Hook()
        target = spec(kind="webhook", url=f"http://127.0.0.1:{hook.port}/in")
        sink = opened(target, tmp_path)
        for i in range(5):
            await sink.put(message(i))
        await sink.close()
        with running(hook):
            sink = opened(target, tmp_path)
            await sink.put(message(5))
            await until(lambda: len(hook.requests) == 6)
            await sink.close()
        assert numbers(hook.messages) == list(range(6))
        assert len({m["id"] for m in hook.messages}) == 6

    async def test_a_message_that_the_receiver_refuses_stops_no_other(self, tmp_path: Path) -> None:
        hook, notes = Hook(), list[str]()
        hook.statuses = [503, 429, 422]
        with running(hook):
            sink = opened(spec(kind="webhook", url=f"http://127.0.0.1:{hook.port}/in"), tmp_path, notes)
            await sink.put(message(0))
            await sink.put(message(1))
            await until(lambda: len(hook.requests) == 4)
            await sink.close()
        assert numbers(hook.messages) == [0, 0, 0, 1]
        assert [m["attempt"] for m in hook.messages] == [1, 2, 3, 1]
        assert any("422" in note and "dropped" in note for note in notes)

    async def test_each_address_of_a_receiver_has_messages_of_its_own(self, tmp_path: Path) -> None:
        hook = Hook()
        paths = ["in/a_b", "in/a/b", f"in/{'long' * 200}", "in/x@y", "in/z@y"]
        sinks = [opened(spec(kind="webhook", url=f"http://127.0.0.1:{hook.port}/{path}"), tmp_path) for path in paths]
        with running(hook):
            for i, sink in enumerate(sinks):
                await sink.put(message(i))
            await until(lambda: len(hook.requests) == len(paths))
            for sink in sinks:
                await sink.close()
        assert sorted(numbers(hook.messages)) == list(range(len(paths)))


class FullDisk:
    """A receiver during whose first delivery the disk is full, for half a second. A limit of this process stands for the disk."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def deliver(self, delivery: Delivery) -> None:
        resource = pytest.importorskip("resource")
        self.deliveries.append(delivery)
        if len(self.deliveries) == 1:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            asyncio.get_running_loop().call_later(0.5, resource.setrlimit, resource.RLIMIT_FSIZE, before)

    async def close(self) -> None:
        pass


async def test_after_a_full_disk_a_sink_goes_on_and_marks_what_it_sends_again(tmp_path: Path) -> None:
    receiver, notes = FullDisk(), list[str]()
    sink = SpooledSink(receiver, tmp_path / "spool.sqlite", "here", notes.append)
    await sink.put(message(0))
    await until(lambda: len(receiver.deliveries) == 2)
    await sink.put(message(1))
    await until(lambda: len(receiver.deliveries) == 3)
    await sink.close()
    assert [(d.message["track_id"], d.attempt > 1) for d in receiver.deliveries] == [(0, False), (0, True), (1, False)]
    assert "cannot be written" in notes[0]
    assert notes[-1] == "here: it takes messages again"


class TestFile:
    async def test_lines_rotate_and_none_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "out" / "events.ndjson"
        sink = opened(spec(kind="file", path=str(path), max_bytes=1000, keep=100), tmp_path)
        for i in range(30):
            await sink.put(message(i))
        await sink.close()
        files = sorted(path.parent.iterdir(), key=lambda p: -int(p.suffix[1:]) if p.suffix != ".ndjson" else 0)
        assert files[-1] == path
        assert all(p.stat().st_size <= 1000 for p in files)
        assert numbers([json.loads(line) for p in files for line in p.read_text().splitlines()]) == list(range(30))

    async def test_only_so_many_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "events.ndjson"
        sink = opened(spec(kind="file", path=str(path), max_bytes=1000, keep=2), tmp_path)
        for i in range(30):
            await sink.put(message(i))
        await sink.close()
        assert {path.name for path in tmp_path.iterdir()} == {"events.ndjson", "events.ndjson.1", "events.ndjson.2"}  # noqa: ASYNC240

    async def test_a_line_that_a_crash_cut_does_not_spoil_the_next(self, tmp_path: Path) -> None:
        path = tmp_path / "events.ndjson"
        path.write_text('{"id": "cut')
        sink = opened(spec(kind="file", path=str(path)), tmp_path)
        await sink.put(message(7))
        await sink.close()
        cut, whole = path.read_text().splitlines()
        assert cut == '{"id": "cut'
        assert numbers([json.loads(whole)]) == [7]

    async def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(PosewireError, match="folder cannot be written"):
            opened(spec(kind="file", path=str(tmp_path / "folder")), tmp_path)


class TestMqtt:
    async def test_two_topics_of_a_broker_have_messages_of_their_own(self, tmp_path: Path) -> None:
        pytest.importorskip("aiomqtt")
        url = "mqtt://127.0.0.1:9"
        sinks = [opened(spec(kind="mqtt", url=url, topic=topic), tmp_path) for topic in ("cams", "house")]
        for sink in sinks:
            await sink.put(message(0))
        await asyncio.gather(*(sink.close() for sink in sinks))
        assert len(list((tmp_path / "spools").glob("*.sqlite"))) == 2

    async def test_nothing_is_lost_while_the_broker_is_killed(self, tmp_path: Path) -> None:
        aiomqtt = pytest.importorskip("aiomqtt")
        broker = Broker(tmp_path)
        received: list[dict[str, Any]] = []

        async def listen() -> None:
            while True:
                try:
                    async with aiomqtt.Client("127.0.0.1", broker.port, identifier="reader", clean_session=False) as client:
                        await client.subscribe("cams/front_door/event", qos=1)
                        subscribed.set()
                        async for found in client.messages:
                            received.append(json.loads(found.payload))
                except aiomqtt.MqttError:
                    await asyncio.sleep(0.05)

        subscribed = asyncio.Event()
        target = spec(kind="mqtt", url=f"mqtt://127.0.0.1:{broker.port}", topic="cams")
        broker.start()
        reader = asyncio.create_task(listen())
        async with asyncio.timeout(20):
            await subscribed.wait()
        sink = opened(target, tmp_path)
        for kill in range(3):
            for i in range(5):
                await sink.put(message(5 * kill + i))
            await until(lambda kill=kill: len({m["id"] for m in received}) >= 5 * kill + 1)  # type: ignore[misc]
            await asyncio.to_thread(broker.stop)
            await asyncio.to_thread(broker.start)
        await until(lambda: len({m["id"] for m in received}) == 15)
        await sink.close()
        reader.cancel()
        broker.stop()
        seen: dict[str, int] = {}
        for found in received:
            seen.setdefault(found["id"], found["message"]["track_id"])
        assert list(seen.values()) == list(range(15))

    async def test_home_assistant_learns_of_the_camera_and_its_zones(self, tmp_path: Path) -> None:
        aiomqtt = pytest.importorskip("aiomqtt")
        broker = Broker(tmp_path)
        with running(broker):
            url = f"mqtt://127.0.0.1:{broker.port}"
            sink = opened(spec(kind="mqtt", url=url, topic="cams", home_assistant=True, send=["state"]), tmp_path)
            await sink.put(message(1, "state"))
            retained: dict[str, str] = {}
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                await client.subscribe("#", qos=1)
                async with asyncio.timeout(20):
                    async for found in client.messages:
                        retained[str(found.topic)] = found.payload.decode()
                        if len(retained) == 5:
                            break
                assert retained["cams/front_door/availability"] == "online"
                occupancy = json.loads(retained["homeassistant/binary_sensor/posewire_front_door/zone_mat/config"])
                assert occupancy["state_topic"] == "cams/front_door/state"
                assert occupancy["device_class"] == "occupancy"
                assert json.loads(retained["cams/front_door/state"])["camera"] == "front door"
                await sink.close()
                async with asyncio.timeout(20):
                    async for found in client.messages:
                        if str(found.topic) == "cams/front_door/availability":
                            assert found.payload == b"offline"
                            break


@pytest.mark.parametrize(
    ("sinks", "text"),
    [
        ([{"kind": "pigeon"}], "pigeon"),
        ([{"kind": "webhook", "url": "file:///etc/passwd"}], "url"),
        ([{"kind": "mqtt", "url": "mqtt://host", "topic": "a/#"}], "topic"),
        ([{"kind": "mqtt", "url": "mqtt://host", "qos": 3}], "qos"),
        ([{"kind": "file", "path": "x", "send": []}], "send"),
        ([{"kind": "file", "path": "x", "sends": ["event"]}], "sends"),
    ],
)
def test_a_bad_sink_is_named(sinks: object, text: str) -> None:
    with pytest.raises(BadParameter, match=text):
        parse_sinks(json.dumps(sinks))


def test_secrets_are_not_shown() -> None:
    shown = repr(spec(kind="webhook", url="https://example.org/x", secret="s3cret"))
    assert "s3cret" not in shown
