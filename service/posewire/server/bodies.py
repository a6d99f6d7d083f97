"""The three kinds of request bodies that carry images, read within limits."""

import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from fastapi import Request
from pydantic import ValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadBody, BadParameter, ClientGone, TooLarge, UnsupportedMediaType
from posewire.schemas.pose import Box, PoseRequest, describe
from posewire.types import FloatArray

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")

_MAX_PARTS = 256


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """One image of a request, not yet decoded."""

    data: bytes
    boxes_xywh: FloatArray | None  # (N, 4) float32, pixels of the upright image


async def read_images(request: Request, engine: Engine, boxes: list[Box] | None) -> list[EncodedImage]:
    """Read the images of a request, by its media type.

    Args:
        request: its body is not yet read.
        engine: its settings have the limits; its threads parse large bodies.
        boxes: of the query, for the only image of a raw or multipart body.

    Raises:
        UnsupportedMediaType, BadBody, BadParameter, TooLarge: with what is wrong and what would be right.
        ClientGone: the client closed the connection before the end of the body.
    """
    settings = engine.settings
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type in IMAGE_TYPES:
        images = [EncodedImage(await _read(request, settings.max_bytes), as_boxes(boxes))]
    elif media_type == "multipart/form-data":
        images = await _read_multipart(request, settings, boxes)
    elif media_type == "application/json":
        if boxes is not None:
            raise BadParameter("with a JSON body, boxes stand beside each picture in the body, not in the query")
        body = await _read(request, settings.max_request_bytes)
        images = await engine.offload(_parse_json, body)
    else:
        found = f"{media_type} is not" if media_type else "a request without Content-Type is not"
        raise UnsupportedMediaType(f"{found} supported: send {', '.join(IMAGE_TYPES)}, multipart/form-data or application/json")
    limit = min(settings.max_pictures, settings.max_in_flight)  # more than fit at a time could never be admitted
    if len(images) > limit:
        raise TooLarge(f"{len(images)} pictures are more than the {limit} that one request may have")
    for i, image in enumerate(images):
        if len(image.data) > settings.max_bytes:
            raise TooLarge(f"a picture of {len(image.data)} bytes is over the limit of {settings.max_bytes}", image=i)
    return images


def as_boxes(boxes: list[Box] | None) -> FloatArray | None:
    """Return boxes of the wire as (N, 4) float32, x y w h."""
    return None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)


async def bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body, piece by piece.

    Raises:
        TooLarge: the body, or its `Content-Length`, has more than `limit` bytes.
        ClientGone: the client closed the connection before the end of the body.
    """
    declared = request.headers.get("content-length", "0")
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
        raise TooLarge(f"the body is over the limit of {limit} bytes")


async def _read(request: Request, limit: int) -> bytes:
    return b"".join([chunk async for chunk in bounded(request, limit)])


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
    if name != "image":
        raise BadBody(f"the part {name!r} is not known: every part is a picture named 'image'; parameters go in the query")
    if b"filename" not in options:
        raise BadBody("the part 'image' is text; send it as a file, with a filename")
    return bytes(part.data)


async def _read_multipart(request: Request, settings: Settings, boxes: list[Box] | None) -> list[EncodedImage]:
    try:
        parts = _Parts(request.headers["content-type"])
        async for chunk in bounded(request, settings.max_request_bytes):
            parts.write(chunk)
    except FormParserError:
        raise BadBody("the multipart body cannot be parsed: invalid multipart data") from None
    images = parts.images()
    if not images:
        raise BadBody("the multipart body has no part named 'image'")
    if boxes is not None and len(images) > 1:
        raise BadParameter("boxes in the query are for one picture; for several, send JSON with boxes beside each")
    return [EncodedImage(image, as_boxes(boxes)) for image in images]


def _parse_json(body: bytes) -> list[EncodedImage]:
    try:
        parsed = PoseRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise BadBody(f"the body is not JSON: {describe(error)}") from None
        raise BadParameter(describe(error)) from None
    images = []
    for i, image in enumerate(parsed.images):
        try:
            data = base64.b64decode(image.base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadParameter(f"images[{i}].base64 is not base64 (standard alphabet, no data: prefix)", image=i) from None
        images.append(EncodedImage(data, as_boxes(image.boxes)))
    return images
