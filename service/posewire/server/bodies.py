"""The three kinds of body that carry pictures, read within bounds."""

import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.errors import BadBody, BadParameter, ClientGone, TooLarge, UnsupportedMediaType
from posewire.schemas.pose import Box, PoseRequest, describe
from posewire.types import FloatArray

PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")


@dataclass(frozen=True, slots=True, eq=False)
class PictureIn:
    """One picture of a request, not yet decoded."""

    data: bytes
    boxes_xywh: FloatArray | None  # (N, 4) float32, pixels of the upright picture


async def read_pictures(request: Request, engine: Engine, boxes: list[Box] | None) -> list[PictureIn]:
    """The pictures of a request, by its media type.

    Args:
        request: its body is not yet read.
        engine: its settings hold the limits; its threads parse what is large.
        boxes: of the query, for the only picture of a raw or multipart body.

    Raises:
        UnsupportedMediaType, BadBody, BadParameter, TooLarge: says what is wrong and what would be right.
    """
    settings = engine.settings
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type in PICTURE_TYPES:
        pictures = [PictureIn(await _read(request, settings.max_bytes), as_boxes(boxes))]
    elif media_type == "multipart/form-data":
        pictures = await _read_multipart(request, settings, boxes)
    elif media_type == "application/json":
        if boxes is not None:
            raise BadParameter("with a JSON body, boxes stand beside each picture in the body, not in the query")
        body = await _read(request, settings.max_request_bytes)
        pictures = await engine.offload(_parse_json, body)
    else:
        found = f"{media_type} is not" if media_type else "a request without Content-Type is not"
        raise UnsupportedMediaType(f"{found} supported: send {', '.join(PICTURE_TYPES)}, multipart/form-data or application/json")
    most = min(settings.max_pictures, settings.max_in_flight)  # more than fit in at a time would be told to try again for ever
    if len(pictures) > most:
        raise TooLarge(f"{len(pictures)} pictures are more than the {most} that one request may have")
    for i, picture in enumerate(pictures):
        if len(picture.data) > settings.max_bytes:
            raise TooLarge(f"a picture of {len(picture.data)} bytes is over the limit of {settings.max_bytes}", image=i)
    return pictures


def as_boxes(boxes: list[Box] | None) -> FloatArray | None:
    """Boxes of the wire as (N, 4) float32, x y w h."""
    return None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)


async def bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body, piece by piece.

    Raises:
        TooLarge: it has, or says that it has, more than `limit` bytes.
        ClientGone: the client went away in the middle.
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
    body = bytearray()
    async for chunk in bounded(request, limit):
        body += chunk
    return bytes(body)


class _WholeMultiPart(MultiPartParser):
    """Refuses a body that ends before its closing boundary: the library would leave out the last part without a word."""

    _ended = False

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._ended:
            raise MultiPartException("It ends before its closing boundary")


async def _read_multipart(request: Request, settings: Settings, boxes: list[Box] | None) -> list[PictureIn]:
    parser = _WholeMultiPart(request.headers, bounded(request, settings.max_request_bytes), max_files=256, max_fields=16)
    # Parts stay in memory, which the body's limit bounds: the root file system may be read-only.
    parser.spool_max_size = settings.max_request_bytes
    try:
        form: FormData = await parser.parse()
    except MultiPartException as error:
        raise BadBody(f"the multipart body cannot be parsed: {error.message.rstrip('.').lower()}") from error
    try:
        parts = form.multi_items()
        if not parts:
            raise BadBody("the multipart body has no part named 'image'")
        if boxes is not None and len(parts) > 1:
            raise BadParameter("boxes in the query are for one picture; for several, send JSON with boxes beside each")
        return [PictureIn(await _read_part(name, part), as_boxes(boxes)) for name, part in parts]
    finally:
        await form.close()


async def _read_part(name: str, part: UploadFile | str) -> bytes:
    if name != "image":
        raise BadBody(f"the part {name!r} is not known: every part is a picture named 'image'; parameters go in the query")
    if isinstance(part, str):
        raise BadBody("the part 'image' is text; send it as a file, with a filename")
    return await part.read()


def _parse_json(body: bytes) -> list[PictureIn]:
    try:
        parsed = PoseRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise BadBody(f"the body is not JSON: {describe(error)}") from None
        raise BadParameter(describe(error)) from None
    pictures = []
    for i, image in enumerate(parsed.images):
        try:
            data = base64.b64decode(image.base64, validate=True)
        except (binascii.Error, ValueError):
            raise BadParameter(f"images[{i}].base64 is not base64 (standard alphabet, no data: prefix)", image=i) from None
        pictures.append(PictureIn(data, as_boxes(image.boxes)))
    return pictures
