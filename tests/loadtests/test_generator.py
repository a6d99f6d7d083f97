"""The generator against a little server of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from loadtests import schedule
from loadtests.generator import closed_loop, in_turn, open_loop
from loadtests.outcomes import LOST
from loadtests.rude import trickle, vanish
from loadtests.wire import Connection, Target, request_bytes

Answer = Callable[[bytes], Awaitable[bytes]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Target]:
    """Answers each request's body with the bytes that `answer` makes; b"" hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("Content-Length")), 0)
                made = await answer(await reader.readexactly(length))
                if not made:
                    return
                writer.write(made)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield Target("127.0.0.1", listener.sockets[0].getsockname()[1])


async def test_a_stalled_server_delays_nobody_who_is_due() -> None:
    arrived: list[bytes] = []
    release = asyncio.Event()

    async def stall(body: bytes) -> bytes:
        arrived.append(body)
        if len(arrived) == 20:  # all are sent while none is answered: a closed loop would have sent one
            release.set()
        await release.wait()
        return OK

    async with server(stall) as target:
        offsets = schedule.constant(100, 0.2)
        outcomes = await open_loop(target, offsets, lambda number: request_bytes("/", b"%d" % number))
    assert sorted(int(body) for body in arrived) == list(range(20))
    assert outcomes.status == [200] * 20
    assert np.allclose(np.diff(sorted(outcomes.due)), 0.01)
    # The first waited for the last to arrive, and all of that counts.
    assert outcomes.latencies(200).max() >= 0.19


async def test_a_closed_loop_has_one_request_a_client_under_way() -> None:
    under_way, most = 0, 0

    async def count(_: bytes) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return OK

    async with server(count) as target:
        outcomes = await closed_loop(target, 3, 0.2, in_turn([request_bytes("/", b"x")]))
    assert most == 3
    assert set(outcomes.status) == {200}


async def test_a_client_that_is_told_to_wait_waits() -> None:
    async def busy(_: bytes) -> bytes:
        return b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"

    async with server(busy) as target:
        outcomes = await closed_loop(target, 2, 0.2, in_turn([request_bytes("/", b"x")]))
    assert outcomes.status == [503, 503]


async def test_a_broken_connection_is_a_lost_request_and_the_next_goes_on() -> None:
    seen = 0

    async def every_other(_: bytes) -> bytes:
        nonlocal seen
        seen += 1
        return b"" if seen % 2 else OK

    async with server(every_other) as target:
        outcomes = await open_loop(target, schedule.constant(50, 0.12), in_turn([request_bytes("/", b"x")]))
    assert sorted(outcomes.status) == [LOST] * 3 + [200] * 3


async def test_a_connection_carries_many_answers_also_chunked_ones() -> None:
    answers = iter([OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", OK])

    async def next_of(_: bytes) -> bytes:
        return next(answers)

    async with server(next_of) as target:
        connection = await Connection.open(target)
        bodies = [(await connection.ask(request_bytes("/"))).body for _ in range(3)]
        connection.close()
    assert bodies == [b"ok", b"abc", b"ok"]


async def test_what_is_not_http_is_an_error() -> None:
    async def nonsense(_: bytes) -> bytes:
        return b"hello\r\n\r\n"

    async with server(nonsense) as target:
        connection = await Connection.open(target)
        with pytest.raises(ConnectionError, match="not an HTTP answer"):
            await connection.ask(request_bytes("/"))
        assert not connection.usable


async def test_rude_clients_trickle_and_vanish() -> None:
    bodies: list[bytes] = []

    async def keep(body: bytes) -> bytes:
        bodies.append(body)
        return OK

    async with server(keep) as target:
        assert await trickle(target, request_bytes("/", b"y" * 100), seconds=0.05, pieces=10) == 200
        await vanish(target, request_bytes("/", b"z" * 100), after=0.0)
        await vanish(target, request_bytes("/", b"z" * 100), after=0.05)
    assert bodies == [b"y" * 100, b"z" * 100]


@pytest.mark.parametrize("url", ["http://example.org:80", "https://127.0.0.1:80", "http://127.0.0.1", "ftp://127.0.0.1:1"])
def test_loads_stay_on_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        Target.of(url)
    assert Target.of("http://127.0.0.1:8000") == Target("127.0.0.1", 8000)
