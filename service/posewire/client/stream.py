"""A client's end of `WS /v1/stream`: the newest frame wins here too, and a lost connection comes back."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import suppress
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from posewire.client.answers import FINAL, OfferedFrame, StreamResult, error_of_close, error_of_refusal, parse
from posewire.errors import ConnectionLost, ServiceError, TimedOut, UnexpectedAnswer
from posewire.schemas.stream import AckMessage, StartedMessage, StartMessage

# Frames that may be on their way or being worked on: one in the service, one behind it.
_WINDOW = 2

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0

# Of one message of the service: far more than a result has.
_MOST_BYTES = 16 * 1024 * 1024


class AsyncPoseStream:
    """A stream of frames; an async context manager, and an async iterator of results.

    A result is acknowledged when it is taken out of the iterator: who reads slowly gets newer frames, not a backlog.

    Args:
        url: of the stream, ws:// or wss://.
        start: the start message.
        headers: of the handshake.
        patience_s: how long to go on trying to connect.
    """

    def __init__(self, url: str, start: StartMessage, headers: Mapping[str, str], patience_s: float) -> None:
        self._url = url
        self._start = start
        self._headers = headers
        self._patience_s = patience_s
        self._started: StartedMessage | None = None
        self._connections = 0
        self._offered = 0
        self._waiting: OfferedFrame | None = None
        self._in_flight: dict[int, OfferedFrame] = {}  # by seq
        self._results: deque[tuple[StreamResult, ClientConnection, int]] = deque()  # with where to acknowledge which seq
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises as `__anext__`."""
        self._runner = asyncio.create_task(self._run(), name="pose-stream")
        self._runner.add_done_callback(lambda _: self._notify())
        try:
            await self._until(lambda: self._started is not None)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """As `close`."""
        await self.close()

    async def close(self) -> None:
        """End the stream; what is not answered yet will not be."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    @property
    def started(self) -> StartedMessage:
        """The service's answer to the start: names of the keypoints, skeleton, limits."""
        if self._started is None:
            raise ConnectionLost("the stream is not open")
        return self._started

    @property
    def _closed(self) -> bool:
        return self._runner is not None and self._runner.cancelled()

    @property
    def _idle(self) -> bool:
        return not self._waiting and not self._in_flight

    def offer(self, data: bytes) -> int:
        """Send a frame (JPEG, PNG or WebP) as soon as it would be worked on at once; a newer offer takes its place until then.

        Returns:
            Its number, from 0.
        """
        number = self._offered
        self._offered += 1
        self._waiting = OfferedFrame(number, data, time.monotonic())
        self._notify()
        return number

    async def put(self, data: bytes) -> int:
        """Wait until the frame before has been sent, then offer this one: no frame is passed over. Raises as `__anext__`."""
        await self._until(lambda: self._waiting is None)
        return self.offer(data)

    def __aiter__(self) -> Self:
        """The results, as they come."""
        return self

    async def __anext__(self) -> StreamResult:
        """The next result.

        Raises:
            ServiceError: the service refuses the stream, or has ended it for a reason that stays.
            ConnectionLost, UnexpectedAnswer: it cannot be reached, or is no Posewire.
        """
        await self._until(lambda: bool(self._results) or self._closed)
        if not self._results:
            raise StopAsyncIteration
        return await self._take()

    async def results(self, frames: AsyncIterable[bytes], *, every: bool = False) -> AsyncGenerator[StreamResult, None]:
        """Send frames and give the results, until the last frame is answered.

        Args:
            frames: encoded pictures.
            every: wait for the service, so that each frame is answered, as for a file; else the newest wins, as for a camera.

        Raises:
            As `__anext__`, and what `frames` raises.
        """
        feeding = asyncio.create_task(self._feed(frames, every), name="pose-stream-feed")
        feeding.add_done_callback(lambda _: self._notify())
        try:
            while True:
                await self._until(lambda: bool(self._results) or self._closed or (feeding.done() and self._idle))
                if not self._results:
                    break
                yield await self._take()
            feeding.result()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, frames: AsyncIterable[bytes], every: bool) -> None:
        async for data in frames:
            _ = await self.put(data) if every else self.offer(data)

    async def _take(self) -> StreamResult:
        result, connection, seq = self._results.popleft()
        with suppress(ConnectionClosed):
            await connection.send(AckMessage(type="ack", seq=seq).model_dump_json())
        return result

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait; what has ended the stream is raised."""
        while not condition():
            if self._runner is None or self._closed:
                raise ConnectionLost("the stream is not open")
            if self._runner.done():
                self._runner.result()
            await self._changed.wait()

    def _notify(self) -> None:
        """Wake everyone who waits now."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        """Connect, again and again."""
        pause, lost_at = _FIRST_PAUSE_S, time.monotonic()
        while True:
            connections = self._connections
            try:
                await self._connection()
            except TimedOut:  # it fell asleep for want of frames
                while self._waiting is None:
                    await self._changed.wait()
                lost_at = time.monotonic()
                continue
            except FINAL:
                raise
            except (ServiceError, ConnectionLost) as error:
                if self._connections > connections:
                    pause, lost_at = _FIRST_PAUSE_S, time.monotonic()
                asked_s = (isinstance(error, ServiceError) and error.retry_after_s) or 0
                pause_s = max(asked_s, pause) * random.uniform(0.75, 1.25)  # noqa: S311 - not all clients at the same moment
                if time.monotonic() + pause_s > lost_at + self._patience_s:
                    raise error from None
            await asyncio.sleep(pause_s)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _connection(self) -> None:
        """One connection, from its handshake to the error that ends it."""
        try:
            async with connect(self._url, additional_headers=self._headers, compression=None, max_size=_MOST_BYTES) as connection:
                await connection.send(self._start.model_dump_json())
                started = parse(await connection.recv())
                if not isinstance(started, StartedMessage):
                    raise UnexpectedAnswer(f"{self._url} answers the start of a stream with {started.type!r}")
                self._started, self._connections = started, self._connections + 1
                self._notify()
                sender = asyncio.create_task(self._send(connection))
                try:
                    await self._receive(connection)
                finally:
                    sender.cancel()
                    await asyncio.gather(sender, return_exceptions=True)
                    self._take_back()
        except ConnectionClosed as closed:
            raise error_of_close(closed) from None
        except InvalidStatus as refused:
            raise error_of_refusal(self._url, refused.response) from None
        except (OSError, InvalidHandshake) as error:  # TimeoutError is an OSError
            raise ConnectionLost(f"{self._url} cannot be reached: {error}") from None

    async def _send(self, connection: ClientConnection) -> None:
        seq = 0
        while True:
            while self._waiting is None or len(self._in_flight) >= _WINDOW:
                await self._changed.wait()
            frame, self._waiting = self._waiting, None
            self._in_flight[seq] = frame
            self._notify()
            await connection.send(frame.data)
            seq += 1

    async def _receive(self, connection: ClientConnection) -> None:
        while True:
            message = parse(await connection.recv())
            if isinstance(message, StartedMessage) or message.seq not in self._in_flight:
                raise UnexpectedAnswer(f"{self._url} answers a frame that it was not sent")
            frame = self._in_flight[message.seq]
            for seq in [seq for seq in self._in_flight if seq <= message.seq]:
                del self._in_flight[seq]
            result = StreamResult.of(message, frame, self._connections - 1, time.monotonic())
            self._results.append((result, connection, message.seq))
            self._notify()

    def _take_back(self) -> None:
        """The connection is lost: its newest frame goes on the next one, unless there is a newer."""
        lost = max(self._in_flight.values(), key=lambda frame: frame.number, default=None)
        self._in_flight.clear()
        if self._waiting is None:
            self._waiting = lost
