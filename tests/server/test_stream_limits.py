"""WS /v1/stream: how a stream ends, each end with its code and a reason that says what to do."""

import asyncio
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from posewire.engine.engine import Engine
from posewire.server.auth import new_key
from tests import sample_images
from tests.server.streaming import START, Listen, Listening, ended, message
from tests.server.support import Gate, GatedDetector, eventually


async def all_gone(server: Listening) -> None:
    async def none_active() -> bool:
        return server.metric("posewire_streams_active") == 0

    await eventually(none_active)


async def refused(server: Listening, key: str | None = None) -> tuple[int, str, str]:
    """Status, problem and `Retry-After` with which a client that is no browser is refused before the handshake is done."""
    with pytest.raises(InvalidStatus) as caught:
        await server.connect(key)
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body)["type"].rpartition(":")[2], answer.headers["Retry-After"]


@pytest.mark.parametrize(
    ("messages", "code", "says"),
    [
        (["nonsense"], 4400, "start"),
        (["[]"], 4400, "start"),
        (['{"type": "ack", "seq": 0}'], 4400, "start"),
        (["x" * 5000], 4400, "5000 characters"),
        ([b"image"], 4400, "first message"),
        (['{"type": "start", "max_people": 0}'], 4422, "max_people"),
        (['{"type": "start", "colour": "red"}'], 4422, "colour"),
        ([START, "nonsense"], 4400, "ack"),
        ([START, START], 4400, "ack"),
        ([START, '{"type": "ack", "seq": "one"}'], 4400, "seq"),
        ([START, '{"type": "ack", "seq": 7}'], 4400, "frame 7"),
        ([START, bytes(2_000_001)], 1009, "2000001"),
        ([START, sample_images.encode(np.zeros((2700, 3200, 3), np.uint8))], 1009, "pixels"),
        ([START, *[b"x"] * 1500], 4429, "1000 messages"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, list) else "",
)
async def test_what_is_not_allowed_closes_with_a_code_and_a_reason(
    listen: Listen, messages: list[str | bytes], code: int, says: str
) -> None:
    server = await listen()
    async with server.connect() as stream:
        for each in messages:
            await stream.send(each)
        found, reason = await ended(stream)
    assert found == code
    assert says in reason
    await all_gone(server)


async def test_who_does_not_start_is_let_go(listen: Listen) -> None:
    server = await listen(stream_start_s=0.1)
    async with server.connect() as stream:
        code, reason = await ended(stream)
    assert (code, "start" in reason) == (4408, True)


async def test_who_is_silent_is_let_go(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_idle_s=0.3)
    async with server.stream() as stream:
        await stream.send(astronaut)
        code, reason = await ended(stream)
    assert (code, "neither a frame nor an acknowledgement" in reason) == (4408, True)
    await all_gone(server)


async def test_who_never_acknowledges_is_let_go(listen: Listen, astronaut: bytes) -> None:
    server = await listen(stream_idle_s=0.6, stream_credits=1)
    async with server.stream() as stream:

        async def send() -> None:
            while True:
                await stream.send(astronaut)
                await asyncio.sleep(0.05)

        sending = asyncio.create_task(send())
        code, reason = await ended(stream)
        await asyncio.gather(sending, return_exceptions=True)
    assert code == 4408
    assert "not acknowledged" in reason


async def test_one_stream_too_many_is_told_to_come_back(listen: Listen, astronaut: bytes) -> None:
    server = await listen(max_streams=1)
    async with server.stream():
        async with server.connect(headers={"Origin": server.url}) as second:  # a browser is told by the close code alone
            assert await ended(second) == (1013, "1 streams are open, more are not taken; try again later")
        assert await refused(server) == (503, "overloaded", "1")
    await all_gone(server)
    async with server.stream() as third:
        await third.send(astronaut)
        assert (await message(third))["type"] == "result"
    assert server.metric("posewire_rejections_total", reason="overloaded") == 2


async def test_one_client_s_streams_leave_places_for_others(listen: Listen, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (ours, our_line), (other, other_line) = new_key("ours"), new_key("other")
    (tmp_path / "keys").write_text(f"{our_line}\n{other_line}\n")
    server = await listen(max_streams_per_client=2, api_keys_file=tmp_path / "keys")
    async with server.stream(key=ours), server.stream(key=ours):
        assert await refused(server, ours) == (429, "too-many-streams", "1")
        async with server.connect(ours, headers={"Origin": server.url}) as third:
            assert await ended(third) == (4430, "2 streams of this client are open; close one, or try again later")
        async with server.stream(key=other):
            assert server.metric("posewire_streams_active") == 3
    await all_gone(server)
    async with server.stream(key=ours):
        pass
    assert server.metric("posewire_rejections_total", reason="too-many-streams") == 2
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []  # it is nobody's fault but the client's


async def test_without_keys_an_address_is_a_client(listen: Listen) -> None:
    server = await listen(max_streams_per_client=1)
    async with server.stream():
        assert await refused(server, "any key") == (429, "too-many-streams", "1")


async def test_a_stop_finishes_the_frame_that_is_under_way(listen: Listen, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    server = await listen(detector=GatedDetector(models.detector, gate), stream_deadline_ms=60_000)
    async with server.stream() as stream:
        with gate.shut():
            await stream.send(astronaut)
            await gate.someone_waits()
            await stream.send(astronaut)
            server.server.stop()
            closing = asyncio.create_task(server.services.streams.close(60))
            await asyncio.sleep(0)
        answer = await message(stream)
        assert (answer["type"], answer["seq"]) == ("result", 0)
        assert await ended(stream) == (1012, "the service is stopping; try again at another instance")
        await closing


async def test_while_it_drains_no_stream_is_taken(listen: Listen) -> None:
    server = await listen()
    server.services.drain.set()
    async with server.connect() as stream:
        code, _ = await ended(stream)
    assert code == 1012


async def raw_stream(server: Listening) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose bytes the test reads and writes itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    head = "GET /v1/stream HTTP/1.1\r\nHost: posewire\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def frame(opcode: int, payload: bytes) -> bytes:
    """A masked WebSocket frame, the mask being 0."""
    size = struct.pack(">B", 128 + len(payload)) if len(payload) < 126 else struct.pack(">BQ", 128 + 127, len(payload))
    return bytes([128 + opcode]) + size + bytes(4) + payload


async def test_who_vanishes_is_forgotten(listen: Listen, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    server = await listen(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        _, writer = await raw_stream(server)
        writer.write(frame(1, START.encode()))
        writer.write(frame(2, astronaut))
        await gate.someone_waits()
        writer.transport.abort()
        await all_gone(server)
