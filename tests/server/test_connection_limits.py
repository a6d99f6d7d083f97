"""Limits of connections: heads, slow and silent clients, clients that do not read, and closes that lose no answer."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from posewire.engine.engine import Engine
from posewire.server.http_server import bind
from tests.server.by_hand import Wire
from tests.server.streaming import Listen, Listening
from tests.server.support import Gate, GatedDetector, eventually

GET = b"GET /livez HTTP/1.1\r\nHost: posewire\r\n"
POST = b"POST /v1/pose HTTP/1.1\r\nHost: posewire\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture
async def served(listen: Listen) -> Listening:
    return await listen()


Connect = Callable[[Listening], Awaitable[Wire]]


@pytest.fixture
async def connect(listen: Listen) -> AsyncIterator[Connect]:
    """Opens connections, and closes them at the end."""
    wires: list[Wire] = []

    async def open_wire(server: Listening) -> Wire:
        wires.append(await Wire.open(server))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


async def problem(wire: Wire) -> tuple[int, str]:
    """Status and type of the problem that comes next; the connection closes behind it."""
    status, headers, body = await wire.answer()
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-request-id"] == json.loads(body)["request_id"]
    assert await wire.ended()
    return status, str(json.loads(body)["type"]).removeprefix("urn:posewire:problem:")


BAD_HEADS: list[tuple[bytes, tuple[int, str]]] = [
    (b"GET /livez?" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: posewire\r\n\r\n", (414, "target-too-long")),
    (b"GET /" + b"a" * 200_000, (414, "target-too-long")),
    (GET + b"X-Many: %b\r\n\r\n" % (b"a" * 70_000), (431, "headers-too-large")),
    (GET + b"X-Many: 1\r\n" * 8_000 + b"\r\n", (431, "headers-too-large")),
    (GET + b"X-Endless: " + b"a" * 500_000, (431, "headers-too-large")),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "bad-request")),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, "bad-request")),
    (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", (400, "bad-request")),
    (b"GET livez HTTP/1.1\r\nHost: posewire\r\n\r\n", (400, "bad-request")),
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", (400, "bad-request")),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n", (400, "bad-request")),
    (POST + b"Content-Length: -1\r\n\r\n", (400, "bad-request")),
]


async def test_a_head_over_a_limit_or_not_http_is_answered_with_a_problem(connect: Connect, served: Listening) -> None:
    for head, expected in BAD_HEADS:
        wire = await connect(served)
        await wire.send(head)
        assert await problem(wire) == expected, head[:100]
    assert served.metric("posewire_rejections_total") == len(BAD_HEADS)


async def test_a_head_within_the_limits_is_served_in_any_pieces(connect: Connect, served: Listening) -> None:
    wire = await connect(served)
    head = GET + b"X-Many: %b\r\n\r\n" % (b"a" * 60_000)
    for start in range(0, len(head), 7_001):
        await wire.send(head[start : start + 7_001])
        await asyncio.sleep(0)
    assert (await wire.answer())[0] == 200
    await wire.send(GET + b"\r\n" + GET)  # a whole one, and the beginning of the next
    assert (await wire.answer())[0] == 200
    await wire.send(b"\r\n")
    assert (await wire.answer())[0] == 200


async def test_a_request_before_a_bad_one_still_gets_its_answer(
    connect: Connect, listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    served = await listen(detector=GatedDetector(models.detector, gate))
    wire = await connect(served)
    with gate.shut():
        await wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(astronaut) + astronaut)
        await gate.someone_waits()
        await wire.send(b"nonsense\r\n\r\n")
    assert (await wire.answer())[0] == 200
    assert await problem(wire) == (400, "bad-request")


async def test_a_head_that_does_not_arrive_in_time_is_refused_and_a_silent_connection_is_closed(connect: Connect, listen: Listen) -> None:
    served = await listen(head_timeout_s=0.3)
    slow, silent, second = [await connect(served) for _ in range(3)]
    await slow.send(GET)
    await second.send(GET + b"\r\n")
    assert (await second.answer())[0] == 200
    await second.send(GET)
    assert await problem(slow) == (408, "timed-out")
    assert await problem(second) == (408, "timed-out")
    assert await silent.ended()


async def test_a_request_in_work_has_no_head_deadline(
    connect: Connect, listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    served = await listen(head_timeout_s=0.2, detector=GatedDetector(models.detector, gate))
    wire, other = await connect(served), await connect(served)
    with gate.shut():
        await wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(astronaut) + astronaut + GET)
        await gate.someone_waits()
        assert await other.ended()  # its deadline, which began later, has passed
    assert (await wire.answer())[0] == 200
    assert await problem(wire) == (408, "timed-out")  # the second head's deadline begins after the first answer


async def test_at_the_limit_the_oldest_waiting_connection_is_closed_for_a_new_one(connect: Connect, listen: Listen) -> None:
    served = await listen(max_connections=3)
    wires = [await connect(served) for _ in range(3)]
    for wire in wires:
        await wire.send(GET + b"\r\n")
        assert (await wire.answer())[0] == 200
    await wires[0].send(GET + b"\r\n")  # now the second waits the longest
    assert (await wires[0].answer())[0] == 200
    new = await connect(served)
    await new.send(GET + b"\r\n")
    assert (await new.answer())[0] == 200
    assert await wires[1].ended()
    await wires[0].send(GET + b"\r\n")
    assert (await wires[0].answer())[0] == 200


async def test_at_the_limit_a_connection_that_is_answered_and_closing_goes_first(connect: Connect, listen: Listen) -> None:
    served = await listen(max_connections=2)
    waiting, refused = await connect(served), await connect(served)
    await waiting.send(GET + b"\r\n")
    assert (await waiting.answer())[0] == 200
    await refused.send(b"nonsense\r\n\r\n")
    assert await problem(refused) == (400, "bad-request")  # its client has not closed it
    new = await connect(served)
    for wire in (new, waiting):
        await wire.send(GET + b"\r\n")
        assert (await wire.answer())[0] == 200


async def test_where_every_connection_is_at_work_a_new_one_gets_503(
    connect: Connect, listen: Listen, models: Engine, gate: Gate, astronaut: bytes
) -> None:
    served = await listen(max_connections=2, detector=GatedDetector(models.detector, gate))
    busy = [await connect(served) for _ in range(2)]
    with gate.shut():
        for wire in busy:
            await wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(astronaut) + astronaut[:1000])
        while served.metric("posewire_rejections_total") == 0:
            new = await connect(served)  # the first may still replace one whose bytes are on their way
            await new.send(GET + b"\r\n")
            status, headers, _ = await new.answer()
            new.close()
        assert (status, headers["retry-after"]) == (503, "1")
        for wire in busy:
            await wire.send(astronaut[1000:])
    for wire in busy:
        assert (await wire.answer())[0] == 200


async def test_idle_connections_have_a_limit_of_their_own(connect: Connect, listen: Listen) -> None:
    served = await listen(max_idle_connections=2)
    wires = [await connect(served) for _ in range(4)]
    assert [await wire.ended() for wire in wires[:2]] == [True, True]
    await wires[3].send(GET + b"\r\n")
    assert (await wires[3].answer())[0] == 200


async def test_an_upgrade_to_another_protocol_is_ignored_and_the_request_served(
    connect: Connect, served: Listening, astronaut: bytes
) -> None:
    for protocol in (b"h2c", b"TLS/1.0, HTTP/1.1", b"websocket, foo"):
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n" % protocol
        wire = await connect(served)
        request = POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(astronaut) + astronaut
        for parts in ([request], [request[:40], request[40:]]):
            for part in parts:
                await wire.send(part)
                await asyncio.sleep(0)
            status, _, body = await wire.answer()
            assert status == 200, body
            assert len(json.loads(body)["images"][0]["people"]) == 1


async def test_a_websocket_upgrade_of_a_post_is_answered(connect: Connect, served: Listening, astronaut: bytes) -> None:
    wire = await connect(served)
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    await wire.send(POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(astronaut) + astronaut)
    assert (await wire.answer())[0] == 200


async def test_an_early_refusal_reaches_a_client_that_sends_on(listen: Listen) -> None:
    """A close with unread bytes would reset the connection, and the client would lose the answer."""
    served = await listen(max_request_bytes=1000, max_bytes=1000)
    body = bytes(8_000_000)
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 1_000_000):
            writer.write(body[start : start + 1_000_000])
            await writer.drain()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()


async def unread_answers(served: Listening, count: int) -> socket.socket:
    """A client that asks for large answers and reads none."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", served.port))
    await loop.sock_sendall(client, b"GET /openapi.json HTTP/1.1\r\nHost: posewire\r\n\r\n" * count)
    return client


async def test_a_client_that_does_not_read_is_cut(listen: Listen) -> None:
    served = await listen(write_timeout_s=0.5)
    client = await unread_answers(served, 400)

    async def cut() -> bool:
        try:
            client.send(b"GET /livez HTTP/1.1\r\nHost: posewire\r\n\r\n")
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    await eventually(cut)
    client.close()


async def test_clients_that_do_not_read_do_not_keep_the_service_from_stopping(listen: Listen) -> None:
    served = await listen(write_timeout_s=600, request_timeout_ms=500, stream_deadline_ms=500)
    clients = [await unread_answers(served, 400) for _ in range(3)]
    served.server.stop()

    async def over() -> bool:
        return not served.services.engine or not served.services.engine.alive

    await eventually(over)
    for client in clients:
        client.close()


async def test_connections_in_the_backlog_at_a_stop_are_answered_or_refused_but_not_reset(listen: Listen) -> None:
    served = await listen()
    outcomes: list[str] = []
    busy = asyncio.Event()

    async def ask() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            except ConnectionRefusedError:
                outcomes.append("refused")
                return
            try:
                writer.write(GET + b"Connection: close\r\n\r\n")
                answer = await reader.read()
                outcomes.append("answered" if answer.startswith(b"HTTP/1.1 200") else "closed")
            except ConnectionResetError:
                outcomes.append("reset")
            finally:
                writer.transport.abort()
            if outcomes.count("answered") >= 64:
                busy.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as clients:
        for _ in range(32):
            clients.create_task(ask())
        await busy.wait()
        served.server.stop()
    assert outcomes.count("refused") == 32
    assert "reset" not in outcomes


async def test_small_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY the second packet of an answer waits for the acknowledgement of the first, which a system delays by 40 ms."""
    accepted: list[socket.socket] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport.get_extra_info("socket"))

    [listener] = bind("127.0.0.1", 0)
    async with await asyncio.get_running_loop().create_server(Accepted, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())

        async def arrived() -> bool:
            return bool(accepted)

        await eventually(arrived)
        assert accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        writer.close()
        await writer.wait_closed()
