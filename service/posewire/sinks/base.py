"""The protocol of sinks, and how one is opened."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel

from posewire.schemas.sinks import Delivery, MessageKind

# Takes one line about a sink that cannot deliver, or can again.
Report: TypeAlias = Callable[[str], None]


class UndeliveredError(Exception):
    """A message could not be delivered now; a later attempt may succeed."""


class RefusedError(Exception):
    """The receiver will never take this message."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a camera."""

    camera: str
    kind: MessageKind
    time: datetime  # UTC
    body: dict[str, Any]

    @classmethod
    def of(cls, camera: str, kind: MessageKind, body: BaseModel) -> "Message":
        """Return a message that is made now."""
        return cls(camera, kind, datetime.now(UTC), body.model_dump(mode="json"))

    def delivery(self, message_id: str, attempt: int) -> Delivery:
        """Return what is sent."""
        return Delivery(id=message_id, attempt=attempt, camera=self.camera, time=self.time.isoformat(), kind=self.kind, message=self.body)

    def to_json(self) -> bytes:
        """Return the message as it is kept on disk."""
        return json.dumps({"camera": self.camera, "kind": self.kind, "time": self.time.isoformat(), "body": self.body}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Message":
        """Return a message of `to_json`."""
        fields = json.loads(data)
        return cls(fields["camera"], fields["kind"], datetime.fromisoformat(fields["time"]), fields["body"])


class Sink(Protocol):
    """Sends messages, in their order."""

    async def put(self, message: Message) -> None:
        """Take a message. Returns when it is safe: written, or kept on disk until it is delivered.

        Raises:
            PosewireError: it cannot be written.
        """

    async def close(self) -> None:
        """Deliver what can be delivered at once, and end. What remains is delivered by the next sink of the same name."""


class Transport(Protocol):
    """Delivers one message after the other, for a `SpooledSink`."""

    async def deliver(self, delivery: Delivery) -> None:
        """Return when the receiver has the message.

        Raises:
            UndeliveredError: try again later.
            RefusedError: never try this message again.
        """

    async def close(self) -> None:
        """Close the connection."""


def spool_path(folder: Path, camera: str, receiver: str, address: str) -> Path:
    """Return the file in which the messages for a sink wait.

    Args:
        folder: of such files.
        camera: its name.
        receiver: kind and host of the sink.
        address: what tells it from others there, without user and password: with another password it is the same sink.
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in f"{camera}-{receiver}")
    exact = hashlib.sha256(f"{camera}\n{receiver}\n{address}".encode()).hexdigest()  # the safe name is shortened, and the same for others
    return folder / f"{safe[:100]}-{exact[:16]}.sqlite"
