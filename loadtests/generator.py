"""The two kinds of load.

`open_loop` is free of coordinated omission: requests are due by a schedule that knows nothing of the answers, and latency
counts from the moment at which a request was due, also where the generator or a full connection pool held it back.
`closed_loop` asks again when it was answered: it finds the capacity, and says little of latency.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import count

from loadtests.outcomes import LOST, Outcomes
from loadtests.schedule import Offsets
from loadtests.wire import Answer, Connection, Target

# Gives the request of a number.
RequestOf = Callable[[int], bytes]

# Above this a client machine would run out of ports and files; what is due then waits here, and its clock runs.
_MAX_CONNECTIONS = 900
_PATIENCE_S = 60.0
# The first request is due a little after the start, or the first ones would already be late.
_RUN_UP_S = 0.05


def in_turn(requests: Sequence[bytes]) -> RequestOf:
    """One after the other, again and again."""
    return lambda number: requests[number % len(requests)]


class Pool:
    """Connections to one server, opened as they are needed and kept."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(_MAX_CONNECTIONS)

    async def ask(self, request: bytes, due: float, outcomes: Outcomes) -> Answer | None:
        """Send a request on a free connection and note what became of it; None: it was lost."""
        sent = time.perf_counter()
        connection: Connection | None = None
        async with self._places:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    while self._idle and not (connection and connection.usable):
                        connection = self._idle.pop()
                    if connection is None or not connection.usable:
                        connection = await Connection.open(self._target)
                    answer = await connection.ask(request)
            except (OSError, TimeoutError):
                outcomes.add(due, sent, time.perf_counter(), LOST)
                return None
            if connection.usable:
                self._idle.append(connection)
        outcomes.add(due, sent, answer.ended, answer.status)
        return answer

    def close(self) -> None:
        """Close the connections that are free."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


async def open_loop(target: Target, offsets: Offsets, request_of: RequestOf) -> Outcomes:
    """Send requests when they are due, whatever became of those before, and wait until all are answered or lost."""
    outcomes, pool = Outcomes(), Pool(target)
    started = time.perf_counter() + _RUN_UP_S
    async with asyncio.TaskGroup() as group:
        for number, offset in enumerate(offsets.tolist()):
            due = started + offset
            # Where it is behind, it still lets the answers in: their times are taken as they arrive.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(pool.ask(request_of(number), due, outcomes))
    pool.close()
    return outcomes


async def closed_loop(target: Target, clients: int, seconds: float, request_of: RequestOf) -> Outcomes:
    """`clients` callers that each ask again as soon as they were answered, or when they were told to, for `seconds`."""
    outcomes, pool, numbers = Outcomes(), Pool(target), count()
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (now := time.perf_counter()) < end:
            answer = await pool.ask(request_of(next(numbers)), now, outcomes)
            if answer and answer.retry_after_s:
                await asyncio.sleep(min(answer.retry_after_s, max(0.0, end - time.perf_counter())))

    await asyncio.gather(*(client() for _ in range(clients)))
    pool.close()
    return outcomes
