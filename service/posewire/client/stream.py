"""The client of `WS /v1/stream`: it sends only the newest frame, and reconnects when the connection is lost."""

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
from posewire.client.inputs import frame_bytes
from posewire.errors import ConnectionLost, ServiceError, TimedOut, UnexpectedAnswer
from posewire.schemas.stream import AckMessage, StartedMessage, StartMessage

# The limit of frames without an answer: one that the service processes, and the next one.
_WINDOW = 2

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0

# The limit of one message of the service, far above the size of a result.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class AsyncPoseStream:
    """A stream of frames: an async context manager, and an async iterator of results.

    A result is acknowledged when the caller takes it from the iterator. So a slow caller gets newer frames, not a backlog.

    Args:
        url: of the stream, ws:// or wss://.
        start: the start message.
        headers: of the handshake.
        patience_s: how long to try to connect before giving up.
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
        self._results: deque[tuple[StreamResult, ClientConnection, int]] = deque()  # with the connection and the seq to acknowledge
        self._changed = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises the errors of `__anext__`."""
        self._runner = asyncio.create_task(self._run(), name="pose-stream")
        self._runner.add_done_callback(lambda _: self._notify())
        try:
            await self._until(lambda: self._started is not None)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the stream."""
        await self.close()

    async def close(self) -> None:
        """End the stream; frames without an answer are dropped."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    @property
    def started(self) -> StartedMessage:
        """Return the service's answer to the start: names of the keypoints, skeleton, limits."""
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
        """Send a frame (JPEG, PNG or WebP) as soon as the service is ready for it; a newer offer replaces it until then.

        Returns:
            The number of the frame, from 0.

        Raises:
            TypeError: the frame is not bytes.
        """
        frame = OfferedFrame(self._offered, frame_bytes(data), time.monotonic())
        self._offered += 1
        self._waiting = frame
        self._notify()
        return frame.number

    async def put(self, data: bytes) -> int:
        """Wait until the last frame is sent, then offer this one: no frame is dropped. Raises the errors of `__anext__` and `offer`."""
        data = frame_bytes(data)
        await self._until(lambda: self._waiting is None)
        return self.offer(data)

    def __aiter__(self) -> Self:
        """Return the iterator of results."""
        return self

    async def __anext__(self) -> StreamResult:
        """Wait for the next result.

        Raises:
            ServiceError: the service rejects the stream, or ended it for a reason that stays.
            ConnectionLost, UnexpectedAnswer: the service cannot be reached, or the server is not Posewire.
        """
        await self._until(lambda: bool(self._results) or self._closed)
        if not self._results:
            raise StopAsyncIteration
        return await self._next_result()

    async def results(self, frames: AsyncIterable[bytes], *, every: bool = False) -> AsyncGenerator[StreamResult, None]:
        """Send frames and yield their results, until the last frame is answered.

        Args:
            frames: encoded images.
            every: True waits for the service, so that each frame has a result (a file). False sends the newest frame (a camera).

        Raises:
            TypeError: a frame is not bytes, such as an array or a path.
            The errors of `__anext__`, and those of `frames`, when the frames before are answered.
        """
        sending = asyncio.create_task(self._send_frames(frames, every), name="pose-stream-frames")
        sending.add_done_callback(lambda _: self._notify())
        try:
            while True:
                await self._until(lambda: bool(self._results) or self._closed or (sending.done() and self._idle))
                if not self._results:
                    break
                yield await self._next_result()
            sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_frames(self, frames: AsyncIterable[bytes], every: bool) -> None:
        async for data in frames:
            _ = await self.put(data) if every else self.offer(data)

    async def _next_result(self) -> StreamResult:
        result, connection, seq = self._results.popleft()
        with suppress(ConnectionClosed):
            await connection.send(AckMessage(type="ack", seq=seq).model_dump_json())
        return result

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; raises the error that ended the stream."""
        while not condition():
            if self._runner is None or self._closed:
                raise ConnectionLost("the stream is not open")
            if self._runner.done():
                self._runner.result()
            await self._changed.wait()

    def _notify(self) -> None:
        """Wake all tasks that wait in `_until`."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        """Connect, and reconnect until an error is final or the patience is over."""
        pause, lost_at = _FIRST_PAUSE_S, time.monotonic()
        while True:
            connections = self._connections
            try:
                await self._connection()
            except TimedOut:  # the service closed a stream without frames; the next frame opens it again
                while self._waiting is None:
                    await self._changed.wait()
                lost_at = time.monotonic()
                continue
            except FINAL:
                raise
            except (ServiceError, ConnectionLost) as error:
                if self._connections > connections:
                    pause, lost_at = _FIRST_PAUSE_S, time.monotonic()
                retry_after_s = (isinstance(error, ServiceError) and error.retry_after_s) or 0
                pause_s = max(retry_after_s, pause) * random.uniform(0.75, 1.25)  # noqa: S311 - so that clients do not all reconnect at once
                if time.monotonic() + pause_s > lost_at + self._patience_s:
                    raise error from None
            await asyncio.sleep(pause_s)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _connection(self) -> None:
        """Run one connection, from its handshake to the error that ends it."""
        try:
            async with connect(self._url, additional_headers=self._headers, compression=None, max_size=_MAX_MESSAGE_BYTES) as connection:
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
                    self._requeue_newest()
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

    def _requeue_newest(self) -> None:
        """Keep the newest frame of a lost connection for the next one, unless a newer frame waits."""
        lost = max(self._in_flight.values(), key=lambda frame: frame.number, default=None)
        self._in_flight.clear()
        if self._waiting is None:
            self._waiting = lost
