"""Answers as bytes, for what is answered without ASGI."""

from functools import cache
from http import HTTPStatus
from typing import Final

from uvicorn.server import ServerState

from posewire.server.middleware import SECURE_HEADERS

_SECURE: Final = b"".join(b"%b: %b\r\n" % header for header in SECURE_HEADERS)


def message(
    state: ServerState,
    status: int,
    media_type: str,
    request_id: str,
    body: bytes,
    *,
    retry_after_s: int | None = None,
    close: bool = False,
) -> bytes:
    """An answer as it is sent, with the headers that every answer has.

    Args:
        state: of the server; it has headers of its own.
        status: of the answer.
        media_type: of the body.
        request_id: a sane one.
        body: all of it.
        retry_after_s: whole seconds after which to try again; None: nothing is said of it.
        close: the connection ends with this answer.
    """
    head = f"content-type: {media_type}\r\nx-request-id: {request_id}\r\ncontent-length: {len(body)}\r\n"
    if retry_after_s is not None:
        head += f"retry-after: {retry_after_s}\r\n"
    if close:
        head += "connection: close\r\n"
    own = [b"%b: %b\r\n" % header for header in state.default_headers]
    return b"".join((_first_lines(status), *own, head.encode(), b"\r\n", body))


@cache
def _first_lines(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # of a client that has gone, whom nobody tells
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode() + _SECURE
