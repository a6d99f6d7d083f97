"""What a service says on a stream, as a client's results and errors."""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed

from posewire.errors import (
    BadMessage,
    BadParameter,
    BadPicture,
    ConnectionLost,
    Draining,
    Overloaded,
    PosewireError,
    ServiceError,
    TimedOut,
    TooFast,
    TooLarge,
    UnexpectedAnswer,
    error_of,
)
from posewire.schemas import describe
from posewire.stream_schemas import SERVER_MESSAGE, ErrorMessage, ResultMessage, StartedMessage, TrackedPerson

# The same stream would be refused again.
FINAL = (BadMessage, BadParameter, BadPicture, TooFast, TooLarge)
_BY_CLOSE_CODE = {kind.close_code: kind for kind in (*FINAL, Draining, Overloaded, TimedOut)}


@dataclass(frozen=True, slots=True)
class OfferedFrame:
    """A frame that waits, or is under way."""

    number: int
    data: bytes
    offered: float  # seconds, monotonic


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What became of one frame."""

    frame: int  # its number, as `offer` and `put` gave it
    connection: int  # counts connections from 0; track ids of different ones have nothing in common
    latency_ms: float  # from `offer` or `put` to the arrival of the answer
    answer: ResultMessage | None  # None: there is an error
    error: ServiceError | None  # of this frame alone

    @classmethod
    def of(cls, message: ResultMessage | ErrorMessage, frame: OfferedFrame, connection: int, arrived: float) -> Self:
        """What the service has answered to a frame; `arrived` in seconds, monotonic."""
        latency_ms = round((arrived - frame.offered) * 1000, 2)
        if isinstance(message, ResultMessage):
            return cls(frame.number, connection, latency_ms, message, None)
        return cls(frame.number, connection, latency_ms, None, error_of(message.problem.type.rpartition(":")[2], message.problem.detail))

    @property
    def people(self) -> list[TrackedPerson]:
        """Everyone in the frame; nobody where there is an error."""
        return self.answer.people if self.answer else []


def parse(text: str | bytes) -> StartedMessage | ResultMessage | ErrorMessage:
    """A message of the service.

    Raises:
        UnexpectedAnswer: it is none.
    """
    try:
        return SERVER_MESSAGE.validate_json(text)
    except ValidationError as error:
        raise UnexpectedAnswer(f"what answers is not a Posewire of this version: {describe(error)}") from None


def error_of_close(closed: ConnectionClosed) -> PosewireError:
    """Why a connection ended."""
    if closed.rcvd is None:
        return ConnectionLost("the connection was lost")
    kind = _BY_CLOSE_CODE.get(closed.rcvd.code)
    if kind is None:
        return ConnectionLost(f"the service closed the connection with code {closed.rcvd.code}: {closed.rcvd.reason or 'no reason given'}")
    return kind(closed.rcvd.reason)
