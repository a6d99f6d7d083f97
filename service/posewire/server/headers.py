"""The headers of every answer: of requests, of handshakes of streams, of early rejections, and of the port for operations.

Some answers are without them, because uvicorn makes them without the application: 400 or 426 for a handshake that is not a valid
WebSocket's, 500 for a handshake that is interrupted by a stop or by a bug, 400 on the port for operations for bytes that are not
HTTP, and `100 Continue`. A connection that is cut has no answer at all.
"""

from collections.abc import Container, Iterator

from posewire.telemetry import tracing

# Names of headers, as the documents and CORS have them.
REQUEST_ID = "X-Request-Id"
RETRY_AFTER = "Retry-After"
TRACEPARENT = "traceparent"

# For browsers, where the route has not set its own.
_SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
_CLOSE = (b"connection", b"close")

_REQUEST_ID = REQUEST_ID.lower().encode()
_TRACEPARENT = TRACEPARENT.encode()


def common_headers(request_id: str, given: Container[bytes] = (), *, close: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of every answer, except those that it has already.

    Args:
        request_id: of the request or stream.
        given: names that the answer has, in lower case.
        close: the connection is closed after the answer.
    """
    yield _REQUEST_ID, request_id.encode()
    if traceparent := tracing.traceparent():
        yield _TRACEPARENT, traceparent.encode()
    yield from (header for header in _SECURE if header[0] not in given)
    if close and _CLOSE[0] not in given:
        yield _CLOSE
