"""One camera's messages and images to everyone who looks at it, and the events of all cameras."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from posewire.errors import ServiceError
from posewire.schemas.cameras import CameraEvent
from posewire.types import Frame, PoseResult

# Messages that wait for one reader. Above it results are dropped, the oldest first; events never are, up to twice as many.
_MAX_WAITING = 256

# Events that are kept for those who come later, or again.
MAX_RECENT = 200


LineKind: TypeAlias = Literal["result", "event"]


@dataclass(frozen=True, slots=True)
class Line:
    """A message as JSON."""

    kind: LineKind
    text: str
    id: str = ""  # of an event of all cameras


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


class CameraEvents:
    """The events of all cameras, to everyone who follows them. The newest ones are kept."""

    def __init__(self) -> None:
        # Numbers begin anew with each process, so an id names the process as well.
        self._process = secrets.token_hex(4)
        self._count = 0
        self._recent: deque[Line] = deque(maxlen=MAX_RECENT)
        self._readers: set[Reader] = set()

    def add(self, event: CameraEvent) -> None:
        """Keep an event, and give it to all readers."""
        self._count += 1
        line = Line("event", event.model_dump_json(), f"{self._process}-{self._count}")
        self._recent.append(line)
        for reader in self._readers:
            reader.put(line)

    @contextmanager
    def reading(self, *, recent: int, after: str | None) -> Iterator[Reader]:
        """Give a reader of kept events, and of all that follow.

        Args:
            recent: the most kept events for a reader that knows none, from 0 to `MAX_RECENT`.
            after: id of the last event that the reader knows; None, or an id of another process or of an event that is not kept any
                more: the reader gets `recent` events.
        """
        reader = Reader()
        kept = list(self._recent)
        known = next((i for i, line in enumerate(kept) if line.id == after), None)
        first = max(0, len(kept) - recent) if known is None else known + 1
        for line in kept[first:]:
            reader.put(line)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
