"""Convert the answers of a service into results and errors of the client."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from pydantic import ValidationError
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from posewire.errors import (
    BadHost,
    BadMessage,
    BadParameter,
    BadPicture,
    BadRequest,
    ConnectionLost,
    Draining,
    ForeignOrigin,
    HeadersTooLarge,
    Misdirected,
    Overloaded,
    PosewireError,
    ServiceError,
    TargetTooLong,
    TimedOut,
    TooFast,
    TooLarge,
    TooManyStreams,
    Unauthorized,
    UnexpectedAnswer,
    error_of,
)
from posewire.schemas.pose import describe
from posewire.schemas.stream import SERVER_MESSAGE, ErrorMessage, ResultMessage, StartedMessage, TrackedPerson

# Errors after which the client does not reconnect: the same stream would be rejected again.
_FINAL_CLOSES = (BadMessage, BadParameter, BadPicture, ForeignOrigin, TooFast, TooLarge, Unauthorized)
FINAL = (*_FINAL_CLOSES, BadHost, BadRequest, HeadersTooLarge, Misdirected, TargetTooLong)
BY_CLOSE_CODE = {kind.close_code: kind for kind in (*_FINAL_CLOSES, Draining, Overloaded, TimedOut, TooManyStreams)}


@dataclass(frozen=True, slots=True)
class OfferedFrame:
    """A frame that waits, or was sent and has no answer yet."""

    number: int
    data: bytes
    offered: float  # time of the call of `offer` or `put`, seconds, monotonic


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The result of one frame, or its error."""

    frame: int  # its number, as `offer` and `put` returned it
    connection: int  # number of the connection, from 0; each connection counts its track ids anew
    latency_ms: float  # from `offer` or `put` to the arrival of the answer
    answer: ResultMessage | None  # None if there is an error
    error: ServiceError | None  # of this frame alone

    @classmethod
    def of(cls, message: ResultMessage | ErrorMessage, frame: OfferedFrame, connection: int, arrived: float) -> Self:
        """Return the result of a frame from the service's answer; `arrived` in seconds, monotonic."""
        latency_ms = round((arrived - frame.offered) * 1000, 2)
        if isinstance(message, ResultMessage):
            return cls(frame.number, connection, latency_ms, message, None)
        return cls(frame.number, connection, latency_ms, None, error_of(message.problem.type.rpartition(":")[2], message.problem.detail))

    @property
    def people(self) -> list[TrackedPerson]:
        """Return everyone in the frame; an empty list if there is an error."""
        return self.answer.people if self.answer else []


def parse(text: str | bytes) -> StartedMessage | ResultMessage | ErrorMessage:
    """Parse a message of the service.

    Raises:
        UnexpectedAnswer: it is not a message of this version of Posewire.
    """
    try:
        return SERVER_MESSAGE.validate_json(text)
    except ValidationError as error:
        raise UnexpectedAnswer(f"what answers is not a Posewire of this version: {describe(error)}") from None


def error_of_problem(url: str, status: int, body: bytes, retry_after: str | None) -> PosewireError:
    """Return the error of an HTTP answer, to a request or to a stream's handshake.

    Args:
        url: of the request.
        status: of the answer.
        body: of the answer: a problem of the service, or anything from a proxy.
        retry_after: the header.
    """
    try:
        problem = json.loads(body)
        slug, detail, image = problem["type"].rpartition(":")[2], problem["detail"], problem.get("image")
    except (ValueError, KeyError, TypeError, AttributeError):
        return UnexpectedAnswer(f"{url} answers with status {status} and no problem+json")
    if status == HTTPStatus.NOT_FOUND:
        return UnexpectedAnswer(f"{url} is not an address of Posewire: {detail}")
    return error_of(slug, detail, image=image, retry_after_s=whole_seconds(retry_after))


def error_of_refusal(url: str, answer: Response) -> PosewireError:
    """Return the error of a rejected handshake; ConnectionLost if a proxy rejected it and a later attempt may succeed."""
    error = error_of_problem(url, answer.status_code, bytes(answer.body), answer.headers.get("Retry-After"))
    if isinstance(error, UnexpectedAnswer) and (answer.status_code >= 500 or answer.status_code == 429):
        return ConnectionLost(str(error))
    return error


def whole_seconds(retry_after: str | None) -> int | None:
    """Return the seconds of a `Retry-After` header; None if it is missing or a date."""
    return int(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None


def error_of_close(closed: ConnectionClosed) -> PosewireError:
    """Return the error that ended a connection."""
    if closed.rcvd is None:
        return ConnectionLost("the connection was lost")
    kind = BY_CLOSE_CODE.get(closed.rcvd.code)
    if kind is None:
        return ConnectionLost(f"the service closed the connection with code {closed.rcvd.code}: {closed.rcvd.reason or 'no reason given'}")
    return kind(closed.rcvd.reason)
