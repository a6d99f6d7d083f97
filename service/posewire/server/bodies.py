"""Read the bodies of requests within limits of bytes and time: the three kinds that carry images, and those of other routes.

Every route reads its body through `paced`: by `read_images`, by `arriving`, or as a `BodyRoute`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadBody, BadParameter, ClientGone, TimedOut, TooLarge, UnsupportedMediaType
from posewire.imaging.decode import sniff
from posewire.schemas.base64_image import decode_base64
from posewire.schemas.pose import Box, PoseRequest, describe
from posewire.server.content_coding import inflater_of
from posewire.server.limits import HeldBytes, client_of
from posewire.server.services import services_of
from posewire.types import FloatArray

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# What is offered. The decoder goes by the bytes, so it does not matter which of the types a body has.
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")
UNNAMED_TYPE = "application/octet-stream"

# What programs send beside these. HEIC and AVIF need an extra; the decoder says so.
_OTHER_NAMES = frozenset(
    {"", "image/*", "binary/octet-stream"}
    | {f"image/{name}" for name in ("jpg", "pjpeg", "jfif", "x-png", "x-bmp", "x-ms-bmp", "heic", "heif", "avif")}
)

# curl's and urllib's default for any body. It is taken where the bytes are an image.
_FORM = "application/x-www-form-urlencoded"

_MAX_PARTS = 256
_PART_NAMES = frozenset(name + brackets for name in ("image", "images", "file", "files") for brackets in ("", "[]"))

# The time that a body may be waited for, in all: so much, and a second more for each so many bytes. Nobody saves up more
# than the maximum, else a large beginning would earn minutes of silence.
WAIT_S = 5.0
_LEAST_BYTES_A_SECOND = 10_000
MAX_WAIT_S = 30.0

# Of a body that FastAPI parses, for one of these methods.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MAX_PARSED_BYTES = 1 << 20

# A JSON body is in memory twice: while it is parsed as its bytes and its strings, then as its strings and the images.
_JSON_COPIES = 2

# 16 images with 1000 boxes each have half of it; each value of a list needs far more memory than its bytes.
_MAX_JSON_VALUES = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """One image of a request, not yet decoded."""

    data: bytes
    boxes_xywh: FloatArray | None  # (N, 4) float32, pixels of the upright image


async def read_images(request: Request, engine: Engine, boxes: list[Box] | None, held: HeldBytes) -> list[EncodedImage]:
    """Read the images of a request, by its media type.

    Args:
        request: its body is not yet read.
        engine: its settings have the limits; its threads parse large bodies.
        boxes: of the query, for the only image of a raw or multipart body.
        held: counts the bytes while they arrive; afterwards it holds those of the images.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, BadBody, BadParameter, TooLarge: with what is wrong and what would be right.
        Overloaded: the bytes do not fit into the memory for bodies.
        TimedOut: the body arrives too slowly.
        ClientGone: the client closed the connection before the end of the body.
    """
    settings = engine.settings
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type in (*IMAGE_TYPES, UNNAMED_TYPE, _FORM) or media_type in _OTHER_NAMES:
        data = b"".join([piece async for piece in arriving(request, settings.max_bytes, held)])
        if media_type == _FORM and sniff(data) is None:
            raise _unsupported(f"{media_type}, which some programs send by default, is")
        images = [EncodedImage(data, as_boxes(boxes))]
    elif media_type == "multipart/form-data":
        images = await _read_multipart(request, settings, boxes, held)
    elif media_type == "application/json":
        if boxes is not None:
            raise BadParameter("with a JSON body, boxes stand beside each image in the body, not in the query")
        body = bytearray()
        async for piece in arriving(request, settings.max_request_bytes, held, copies=_JSON_COPIES):
            body += piece
        images = await engine.offload(_parse_json, body)
    else:
        raise _unsupported(f"{media_type} is")
    held.reduce(sum(len(image.data) for image in images))
    check_count(len(images), settings)
    check_sizes(images, settings)
    return images


def check_count(images: int, settings: Settings) -> None:
    """Check the number of images of one request.

    Raises:
        TooLarge: they are too many.
    """
    limit = min(settings.max_pictures, settings.max_in_flight)  # more than fit at a time could never be admitted
    if images > limit:
        raise TooLarge(f"{images} images are more than the {limit} that one request may have")


def check_sizes(images: list[EncodedImage], settings: Settings) -> None:
    """Check the bytes of each image.

    Raises:
        TooLarge: an image has too many; the error has its index.
    """
    for i, image in enumerate(images):
        if len(image.data) > settings.max_bytes:
            raise TooLarge(f"an image of {len(image.data)} bytes is over the limit of {settings.max_bytes}", image=i)


def as_boxes(boxes: list[Box] | None) -> FloatArray | None:
    """Return boxes of the wire as (N, 4) float32, x y w h."""
    return None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)


async def bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body, piece by piece.

    Raises:
        TooLarge: the body, or its `Content-Length`, has more than `limit` bytes.
        ClientGone: the client closed the connection before the end of the body.
    """
    declared = request.headers.get("content-length", "0")[:20]  # more digits are no smaller, and `int` refuses very many
    total = int(declared) if declared.isascii() and declared.isdigit() else 0
    if total <= limit:
        total = 0
        try:
            async for chunk in request.stream():
                total += len(chunk)
                if total > limit:
                    break
                yield chunk
        except ClientDisconnect:
            raise ClientGone from None
    if total > limit:
        raise _over(limit)


async def arriving(request: Request, limit: int, held: HeldBytes, *, copies: int = 1) -> AsyncGenerator[bytes, None]:
    """Yield the body without its content coding, piece by piece.

    Args:
        request: its body is not yet read.
        limit: bytes of the body, with and without its content coding.
        held: gets the bytes, before they are yielded.
        copies: how often the body will be in memory.

    Raises:
        UnsupportedEncoding, BadBody, TooLarge, Overloaded, TimedOut, ClientGone: as `read_images`.
    """
    inflater = inflater_of(request.headers)
    total = 0
    async with aclosing(paced(bounded(request, limit))) as body:
        async for received in body:
            for piece in inflater.pieces(received) if inflater else (received,):
                total += len(piece)
                if total > limit:
                    raise _over(limit)
                held.add(len(piece) * copies)
                yield piece
                if inflater:
                    await asyncio.sleep(0)  # a bomb is much work: let other tasks run in between
    if inflater:
        inflater.finish()


async def paced(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield a body that arrives fast enough. The time that the caller needs for a piece does not count.

    Raises:
        TimedOut: the body does not come at the least rate, or has stopped for `MAX_WAIT_S`.
    """
    loop = asyncio.get_running_loop()
    async with aclosing(body):
        left = WAIT_S  # seconds
        while True:
            since = loop.time()
            try:
                async with asyncio.timeout(left):
                    piece = await anext(body, None)
            except TimeoutError:
                raise TimedOut(
                    f"the body arrives too slowly: send at least {_LEAST_BYTES_A_SECOND} bytes a second, without long pauses"
                ) from None
            if piece is None:
                return
            left = min(left - (loop.time() - since) + len(piece) / _LEAST_BYTES_A_SECOND, MAX_WAIT_S)
            yield piece


class BodyRoute(APIRoute):
    """A route whose body FastAPI parses: it is read as `arriving` reads it, and has 1 MiB at most."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which gets the whole body at once."""
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            with services_of(request).body_bytes.enter(client_of(request)) as held:
                body = b"".join([piece async for piece in arriving(request, _MAX_PARSED_BYTES, held)])
                given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

                async def receive() -> Message:
                    return given.pop() if given else await request.receive()

                return await handle(Request(request.scope, receive))

        return handle if _WITH_BODY.isdisjoint(self.methods or ()) else read_and_handle


def _over(limit: int) -> TooLarge:
    return TooLarge(f"the body is over the limit of {limit} bytes")


def _unsupported(found: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"{found} not supported: send {', '.join(IMAGE_TYPES)}, {UNNAMED_TYPE}, multipart/form-data or application/json"
    )


@dataclass(slots=True)
class _Part:
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


class _Parts:
    """The parts of a multipart body, as its parser finds them.

    They stay in memory, within the limit of the body: the root file system may be read-only.

    Args:
        content_type: of the request.

    Raises:
        BadBody: the content type names no boundary.
        FormParserError: the boundary is too long.
    """

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        if b"boundary" not in options:
            raise BadBody("the multipart body cannot be parsed: missing boundary in multipart")
        self._found: list[_Part] = []
        self._name, self._value = bytearray(), bytearray()  # of the header that is being read
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_part_data": lambda data, start, end: self._found[-1].data.extend(data[start:end]),
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }
        self._parser = MultipartParser(options[b"boundary"], callbacks)

    def write(self, chunk: bytes) -> None:
        """Parse a piece of the body.

        Raises:
            FormParserError: it is not valid.
            BadBody: it has too many parts.
        """
        self._parser.write(chunk)

    def images(self) -> list[bytes]:
        """Return the images, after the end of the body.

        Raises:
            BadBody: the body was cut short, or a part is not an image.
        """
        if not self._ended:  # the parser would leave out the last part without an error
            raise BadBody("the multipart body cannot be parsed: it ends before its closing boundary")
        return [_image_of(part) for part in self._found]

    def _begin_part(self) -> None:
        if len(self._found) == _MAX_PARTS:
            raise BadBody(f"the multipart body cannot be parsed: too many files. maximum number of files is {_MAX_PARTS}")
        self._found.append(_Part())

    def _end_header(self) -> None:
        self._found[-1].headers.append((bytes(self._name).lower(), bytes(self._value)))
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True


def _image_of(part: _Part) -> bytes:
    _, options = parse_options_header(dict(part.headers).get(b"content-disposition"))
    if b"name" not in options:
        raise BadBody('the multipart body cannot be parsed: the content-disposition header field "name" must be provided')
    name = options[b"name"].decode(errors="replace")
    if name not in _PART_NAMES:
        raise BadBody(f"the part {name!r} is not known: every part is an image named 'image'; parameters go in the query")
    if b"filename" not in options:
        raise BadBody(f"the part {name!r} is text; send it as a file, with a filename")
    data = bytes(part.data)
    part.data.clear()  # one part at a time is in memory twice
    return data


async def _read_multipart(request: Request, settings: Settings, boxes: list[Box] | None, held: HeldBytes) -> list[EncodedImage]:
    try:
        parts = _Parts(request.headers["content-type"])
        async for piece in arriving(request, settings.max_request_bytes, held):
            parts.write(piece)
    except FormParserError:
        raise BadBody("the multipart body cannot be parsed: invalid multipart data") from None
    images = parts.images()
    if not images:
        raise BadBody("the multipart body has no part named 'image'")
    if boxes is not None and len(images) > 1:
        raise BadParameter("boxes in the query are for one image; for several, send JSON with boxes beside each")
    return [EncodedImage(image, as_boxes(boxes)) for image in images]


def _parse_json(body: bytearray) -> list[EncodedImage]:
    """Return the images of a JSON body, and empty the body: its memory is needed for the images."""
    check_values(body)
    try:
        parsed = PoseRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise BadBody(f"the body is not JSON: {describe(error)}") from None
        raise BadParameter(describe(error)) from None
    body.clear()
    images = []
    for i, image in enumerate(parsed.images):
        text, image.base64 = image.base64, ""
        try:
            data = decode_base64(text)
        except ValueError:
            raise BadParameter(f"images[{i}].base64 is not base64, nor a data: URL of base64", image=i) from None
        images.append(EncodedImage(data, as_boxes(image.boxes)))
    return images


def check_values(json: bytes | bytearray) -> None:
    """Check the number of values of a JSON text, before it is parsed.

    Raises:
        TooLarge: they are too many.
    """
    if json.count(b",") + json.count(b"[") + json.count(b"{") > _MAX_JSON_VALUES:
        raise TooLarge(f"the JSON has more than {_MAX_JSON_VALUES} values")
