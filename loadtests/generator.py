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
    """Connections to one server, opened as they are needed and kept. Every request notes what became of it."""

    def __init__(self, target: Target, outcomes: Outcomes) -> None:
        self._target = target
        self._outcomes = outcomes
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._under_way = 0  # of `send`
        self._quiet = asyncio.Event()

    async def ask(self, request: bytes, due: float) -> Answer | None:
        """Send a request on a free connection and wait for its answer; None: it was lost."""
        sent = time.perf_counter()
        async with self._places:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    connection = self._free() or await Connection.open(self._target)
                    answer = await connection.ask(request)
            except (OSError, TimeoutError):
                self._outcomes.add(due, sent, time.perf_counter(), LOST)
                return None
            self._keep(connection)
        self._outcomes.add(due, sent, answer.ended, answer.status)
        return answer

    async def send(self, request: bytes, due: float, group: asyncio.TaskGroup) -> None:
        """Send a request and wait for no more than a place; without a task of its own if a connection is free, for a third less CPU."""
        if self._places.locked() or not (connection := self._free()):
            group.create_task(self.ask(request, due))
            return
        await self._places.acquire()
        self._under_way += 1
        sent = time.perf_counter()
        patience = asyncio.get_running_loop().call_later(_PATIENCE_S, connection.close)

        def note(answered: asyncio.Future[Answer]) -> None:
            patience.cancel()
            if answered.exception():
                self._outcomes.add(due, sent, time.perf_counter(), LOST)
            else:
                answer = answered.result()
                self._outcomes.add(due, sent, answer.ended, answer.status)
                self._keep(connection)
            self._places.release()
            self._under_way -= 1
            self._quiet.set()

        connection.begin(request).add_done_callback(note)

    async def settle(self) -> None:
        """Wait until all that was sent is answered or lost, and close the connections."""
        while self._under_way:
            self._quiet.clear()
            await self._quiet.wait()
        self.close()

    def close(self) -> None:
        """Close the connections that are free."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _free(self) -> Connection | None:
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if connection.usable:
            self._idle.append(connection)


async def open_loop(target: Target, offsets: Offsets, request_of: RequestOf) -> Outcomes:
    """Send requests when they are due, whatever became of those before, and wait until all are answered or lost."""
    outcomes = Outcomes()
    pool = Pool(target, outcomes)
    started = time.perf_counter() + _RUN_UP_S
    async with asyncio.TaskGroup() as group:
        for number, offset in enumerate(offsets.tolist()):
            due = started + offset
            # Where it is behind, it still lets the answers in: their times are taken as they arrive.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await pool.send(request_of(number), due, group)
    await pool.settle()
    return outcomes


async def closed_loop(target: Target, clients: int, seconds: float, request_of: RequestOf) -> Outcomes:
    """`clients` callers that each ask again as soon as they were answered, or when they were told to, for `seconds`."""
    outcomes, numbers = Outcomes(), count()
    pool = Pool(target, outcomes)
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (now := time.perf_counter()) < end:
            answer = await pool.ask(request_of(next(numbers)), now)
            if answer and answer.retry_after_s:
                await asyncio.sleep(min(answer.retry_after_s, max(0.0, end - time.perf_counter())))

    await asyncio.gather(*(client() for _ in range(clients)))
    pool.close()
    return outcomes
