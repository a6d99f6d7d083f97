"""HTTP/1.1 as no client would write it: requests whose head, lengths and chunks were damaged."""

import base64
import json
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import NamedTuple

import httptools

from loadtests.hostile.images import sources
from loadtests.hostile.mutations import flip_bits, insert, truncate
from loadtests.wire import Target

_SEED = 31
_BOUNDARY = b"XX"
_HEADER_LINES = (
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: +5",
    b"Content-Length: 99999999999999999999999999",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:chunked\x0b",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Host: elsewhere.example",
    b"Host: ",
    b"Host: [",
    b"Origin: http://[",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Connection: close, keep-alive",
    b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary=" + b"a" * 300,
    b"Content-Type: \xff\xfe",
    b"Accept: image/jpeg;q=2, */*;q=nan",
    b"X-Request-Timeout-Ms: 1e9",
    b"X-Request-Id: \x00",
    b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-ff",
    b" folded: line",
    b"\tfolded",
    b": no name",
    b"no colon",
    b"X-\xc3\xa9: \xc3\xa9",
    b"X-Long: " + b"a" * 20_000,
)
_FIRST_LINES = (
    b"POST /v1/pose HTTP/1.0",
    b"POST /v1/pose HTTP/2.0",
    b"POST /v1/pose",
    b"post /v1/pose HTTP/1.1",
    b"GET /v1/pose HTTP/1.1",
    b"PATCH /v1/pose HTTP/1.1",
    b"POST * HTTP/1.1",
    b"POST http://127.0.0.1/v1/pose HTTP/1.1",
    b"POST //v1//pose HTTP/1.1",
    b"POST /v1/pose?boxes=%00&max_people=%ff HTTP/1.1",
    b"POST /v1/pose?" + b"a=1&" * 500 + b" HTTP/1.1",
    b"POST /v1/%70ose HTTP/1.1",
    b"POST /../v1/pose HTTP/1.1",
    b"POST /v1/pose\xff HTTP/1.1",
    b"GET /v1/stream HTTP/1.1",
    b"CONNECT 127.0.0.1:80 HTTP/1.1",
    b"PRI * HTTP/2.0",
)
_CHUNK_SIZES = (b"0", b"-1", b"ffffffffffffffff", b"10000000000000000", b"5;a=b", b"", b"zz", b"0x5", b" 5")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5]\d\d ")
_HEAD = 200  # bytes
_DEADLINE_S = 30.0
PAGES = ("text/html", "text/plain")  # of the demo page and of the metrics: a damaged path may name them
NotHttp = httptools.HttpParserError


class Reply(NamedTuple):
    """An answer on a connection."""

    status: int
    content_type: str
    body: bytes


def whole(number: int) -> bytes:
    """The request of a number before it is damaged: raw, multipart, JSON or in chunks."""
    lines, body = _parts(_random(number))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def request(number: int) -> bytes:
    """The bytes of a number, always the same: one request, whole or damaged, at times with another behind it."""
    random = _random(number)
    lines, body = _parts(random)
    for _ in range(random.choice((1, 1, 2, 3))):
        lines, body = _damaged(random, lines, body)
    end = b"\n" if random.random() < 0.05 else b"\r\n"
    sent = end.join(lines) + end + end + body
    match random.randrange(8):
        case 0:
            head = flip_bits(random, sent[:_HEAD], 3)
            return head + sent[_HEAD:]
        case 1:
            return truncate(random, sent)
        case 2:
            return insert(random, sent)
        case 3:
            return sent + sent  # pipelined
        case _:
            return sent


def exchange(target: Target, sent: bytes, wait_s: float = 1.0) -> list[Reply]:
    """Send it, and read until the service closes the connection; the answers that came.

    A request of which a part is missing is never answered, so after `wait_s` without an answer, or after the first, the sending side is
    closed: nothing more will come. Until then it must stay open, for a service may take its end for the client's leaving.

    Raises:
        TimeoutError: the service keeps the connection open although nothing more will come.
        NotHttp: what came is not HTTP.
    """
    received = b""
    with socket.create_connection((target.host, target.port), timeout=_DEADLINE_S) as connection, suppress(ConnectionError):
        connection.sendall(sent)
        connection.settimeout(wait_s)
        with suppress(TimeoutError):
            while not _replies(received):
                if not (piece := connection.recv(65536)):
                    return _replies(received)
                received += piece
        connection.settimeout(_DEADLINE_S)
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            received += piece
    return _replies(received)


def _random(number: int) -> Random:
    return Random(_SEED * 1_000_003 + number)  # noqa: S311 - the same numbers again and again are what is wanted


def _parts(random: Random) -> tuple[list[bytes], bytes]:
    image = sources()[random.choice(("jpeg", "png", "webp"))]
    head = [b"POST /v1/pose HTTP/1.1", b"Host: 127.0.0.1"]
    match random.randrange(4):
        case 0:
            body, kind = image, b"image/jpeg"
        case 1:
            part = b'Content-Disposition: form-data; name="image"; filename="a.jpg"'
            body = b"\r\n".join((b"--" + _BOUNDARY, part, b"", image, b"--" + _BOUNDARY + b"--", b""))
            kind = b"multipart/form-data; boundary=" + _BOUNDARY
        case 2:
            body, kind = json.dumps({"images": [{"base64": base64.b64encode(image).decode()}]}).encode(), b"application/json"
        case _:
            half = len(image) // 2
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (image[:half], image[half:])) + b"0\r\n\r\n"
            return [*head, b"Content-Type: image/jpeg", b"Transfer-Encoding: chunked"], body
    return [*head, b"Content-Type: " + kind, b"Content-Length: %d" % len(body)], body


def _damaged(random: Random, lines: Sequence[bytes], body: bytes) -> tuple[list[bytes], bytes]:
    changed = list(lines)
    match random.randrange(7):
        case 0:
            changed[0] = random.choice(_FIRST_LINES)
        case 1:
            changed.insert(random.randint(1, len(changed)), random.choice(_HEADER_LINES))
        case 2:
            changed.append(random.choice(changed))
        case 3:
            del changed[random.randrange(len(changed))]
        case 4:
            changed[-1] = random.choice((b"Content-Length: %d" % random.choice((0, 1, len(body) - 1, len(body) + 1, 10**12)), changed[-1]))
        case 5:
            body = body.replace(body.split(b"\r\n", 1)[0], random.choice(_CHUNK_SIZES), 1)
        case _:
            body = flip_bits(random, body) if body else body
    return changed or [b""], body


class _Reader:
    """httptools' protocol: the answers on one connection."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self._type, self._body = "", b""
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._type = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if (status := self.parser.get_status_code()) >= 200:  # 100 Continue is none
            self.replies.append(Reply(status, self._type, self._body))
        self._type, self._body = "", b""


def _replies(received: bytes) -> list[Reply]:
    """Every whole answer; a parser takes no more once it has seen `Connection: close`, so each answer has one of its own."""
    found: list[Reply] = []
    while received.startswith(b"HTTP/"):
        reader = _Reader()
        following = _STATUS_LINE.search(received, 1)
        reader.parser.feed_data(received[: following.start()] if following else received)
        found += reader.replies
        received = received[following.start() :] if following else b""
    return found
