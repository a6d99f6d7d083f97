"""What one stream has received and not yet answered: the newest frame, and the credit to answer it."""

import asyncio
from collections import deque
from dataclasses import dataclass

from posewire.errors import BadMessage, ServiceError, TimedOut


@dataclass(frozen=True, slots=True)
class Arrival:
    """One encoded frame."""

    seq: int  # on this connection, from 0
    data: bytes
    at: float  # seconds, monotonic: when its last byte was there


class Inbox:
    """Holds one frame, the newest; gives it out when few enough answers are unacknowledged.

    A send into a WebSocket does not wait for the other end, so what bounds the answers on their way through a slow
    network is the client's acknowledgements.

    Args:
        credit: answers that may be unacknowledged.
        patience_s: seconds that the client may owe an acknowledgement that is needed to go on.
    """

    def __init__(self, credit: int, patience_s: float) -> None:
        self._credit = credit
        self._patience_s = patience_s
        self._frame: Arrival | None = None
        self._received = 0
        self._answered = -1  # the last frame that was answered
        self._answers = 0
        self._unacknowledged: deque[int] = deque()
        self._changed = asyncio.Event()
        self._end: ServiceError | None = None

    @property
    def received(self) -> int:
        """Frames so far."""
        return self._received

    @property
    def answers(self) -> int:
        """Answers so far, results and errors."""
        return self._answers

    @property
    def waiting(self) -> bool:
        """Whether a frame waits to be taken."""
        return self._frame is not None

    def put(self, data: bytes, at: float) -> bool:
        """Take in a frame; whether it took the place of one that had waited."""
        replaced = self.waiting
        self._frame = Arrival(self._received, data, at)
        self._received += 1
        self._changed.set()
        return replaced

    def acknowledge(self, seq: int) -> None:
        """The client has taken in the answer to frame `seq` and all answers before it.

        Raises:
            BadMessage: the frame has not been answered.
        """
        if seq > self._answered:
            raise BadMessage(f"frame {seq} is acknowledged, which has not been answered")
        while self._unacknowledged and self._unacknowledged[0] <= seq:
            self._unacknowledged.popleft()
        self._changed.set()

    async def take(self) -> Arrival:
        """The newest frame, as soon as there is one and the credit to answer it.

        Raises:
            TimedOut: the client acknowledges nothing.
            ServiceError: that of `end`.
        """
        self._raise_end()
        try:
            async with asyncio.timeout(self._patience_s):
                while len(self._unacknowledged) >= self._credit:
                    await self._change()
        except TimeoutError:
            raise TimedOut(f'{self._credit} answers are not acknowledged; send {{"type": "ack", "seq": n}} for each') from None
        while (frame := self._frame) is None:
            await self._change()
        self._frame = None
        return frame

    def answered(self, seq: int) -> int:
        """Note that the frame is being answered; how many were passed over since the answer before."""
        passed_over = seq - self._answered - 1
        self._answered = seq
        self._answers += 1
        self._unacknowledged.append(seq)
        return passed_over

    def end(self, why: ServiceError) -> None:
        """Give out no more frames; what is being answered still will be."""
        self._end = why
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
        self._raise_end()

    def _raise_end(self) -> None:
        if self._end is not None:
            raise self._end
