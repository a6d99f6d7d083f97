"""The latest-frame buffer of one stream, and the answers that its client has not acknowledged."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from posewire.errors import BadMessage, ServiceError, TimedOut
from posewire.types import Frame


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One frame of a stream."""

    seq: int  # on this connection, from 0
    data: bytes | Frame  # encoded, or decoded already
    at: float  # when its last byte was received, or when it was decoded, seconds, monotonic
    pts_s: float | None = None  # seconds on the clock of the video that it is of; None: it is of none


class FrameSource(Protocol):
    """Hands out the newest frame of a stream."""

    async def take(self) -> ReceivedFrame:
        """Wait for a frame that was not taken before, and for leave to answer it; raises the reason why the stream ends."""

    def answered(self, seq: int) -> int:
        """Note that a frame is being answered. Return the number of frames dropped since the answer before."""


class LatestFrame:
    """Holds the newest frame, and hands it out while few enough answers are unacknowledged.

    A send into a WebSocket does not wait for the other end. So the client's acknowledgements limit the answers that are
    on their way through a slow network.

    Args:
        max_unacknowledged: answers that may be unacknowledged.
        ack_timeout_s: seconds to wait for an acknowledgement that is needed to go on.
    """

    def __init__(self, max_unacknowledged: int, ack_timeout_s: float) -> None:
        self._max_unacknowledged = max_unacknowledged
        self._ack_timeout_s = ack_timeout_s
        self._frame: ReceivedFrame | None = None
        self._received = 0
        self._answered = -1  # the last frame that was answered
        self._answers = 0
        self._unacknowledged: deque[int] = deque()
        self._changed = asyncio.Event()
        self._end: ServiceError | None = None

    @property
    def received(self) -> int:
        """Number of received frames."""
        return self._received

    @property
    def answers(self) -> int:
        """Number of answers, results and errors."""
        return self._answers

    @property
    def waiting(self) -> bool:
        """True if a frame waits to be taken."""
        return self._frame is not None

    def put(self, data: bytes, at: float) -> bool:
        """Store a frame. Return True if it replaced one that was not yet taken."""
        replaced = self.waiting
        self._frame = ReceivedFrame(self._received, data, at)
        self._received += 1
        self._changed.set()
        return replaced

    def acknowledge(self, seq: int) -> None:
        """Note that the client has received the answer to frame `seq` and all answers before it.

        Raises:
            BadMessage: the frame has not been answered.
        """
        if seq > self._answered:
            raise BadMessage(f"frame {seq} is acknowledged, which has not been answered")
        while self._unacknowledged and self._unacknowledged[0] <= seq:
            self._unacknowledged.popleft()
        self._changed.set()

    async def take(self) -> ReceivedFrame:
        """Wait for a frame and for the credit to answer it, and return the newest frame.

        Raises:
            TimedOut: the client acknowledges nothing.
            ServiceError: the reason given to `end`.
        """
        self._raise_end()
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                while len(self._unacknowledged) >= self._max_unacknowledged:
                    await self._change()
        except TimeoutError:
            raise TimedOut(f'{self._max_unacknowledged} answers are not acknowledged; send {{"type": "ack", "seq": n}} for each') from None
        while (frame := self._frame) is None:
            await self._change()
        self._frame = None
        return frame

    def answered(self, seq: int) -> int:
        """Note that a frame is being answered. Return the number of frames dropped since the answer before."""
        dropped = seq - self._answered - 1
        self._answered = seq
        self._answers += 1
        self._unacknowledged.append(seq)
        return dropped

    def end(self, reason: ServiceError) -> None:
        """Hand out no more frames; the frame that is being answered still gets its answer."""
        self._end = reason
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
        self._raise_end()

    def _raise_end(self) -> None:
        if self._end is not None:
            raise self._end
