"""One camera's messages and images to everyone who looks at it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from posewire.errors import ServiceError
from posewire.types import Frame, PoseResult

# Messages that wait for one reader. Above it results are dropped, the oldest first; events never are, up to twice as many.
_MAX_WAITING = 256


LineKind: TypeAlias = Literal["result", "event"]


@dataclass(frozen=True, slots=True)
class Line:
    """A message as JSON."""

    kind: LineKind
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The newest frame with its people."""

    number: int
    frame: Frame
    result: PoseResult


class Reader:
    """One reader's messages, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Line] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    def put(self, line: Line) -> None:
        """Add a message; a reader that is far behind loses results, and one that does not read at all is ended."""
        if len(self._waiting) >= _MAX_WAITING:
            oldest = next((old for old in self._waiting if old.kind == "result"), None)
            if oldest is not None:
                self._waiting.remove(oldest)
            elif len(self._waiting) >= 2 * _MAX_WAITING:
                self.end()
                return
        self._waiting.append(line)
        self._arrived.set()

    def end(self, reason: ServiceError | None = None) -> None:  # noqa: ARG002 - an open stream is told why; here the end is enough
        """End the messages after those that wait."""
        self._ended = True
        self._arrived.set()

    async def lines(self) -> AsyncIterator[Line]:
        """Yield messages until the camera is changed or removed."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()


class Broadcast:
    """Everyone who looks at one camera."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()
        self._ended = False
        self.newest: Shown | None = None

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Give a reader of the messages from now on."""
        reader = Reader()
        if self._ended:
            reader.end()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def show(self, frame: Frame, result: PoseResult) -> None:
        """Take the newest frame; its message follows."""
        self.newest = Shown(self.newest.number + 1 if self.newest else 0, frame, result)

    def send(self, kind: LineKind, text: str) -> None:
        """Give a message to all readers."""
        for reader in self._readers:
            reader.put(Line(kind, text))

    def end(self) -> None:
        """End all readers: the camera is changed or removed, or the service stops."""
        self._ended = True
        for reader in self._readers:
            reader.end()
