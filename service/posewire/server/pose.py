"""POST /v1/pose: images in, people out."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from posewire.engine.deadlines import until
from posewire.engine.engine import Engine
from posewire.errors import (
    BadBody,
    BadParameter,
    BadPicture,
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    NotAcceptable,
    NotInstalled,
    NotReady,
    OutOfMemory,
    Overloaded,
    RateLimited,
    ServiceError,
    TimedOut,
    TooLarge,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from posewire.formats.base import Format, FormatOptions, ImagePoses, scale_of
from posewire.formats.posewire import image_fields
from posewire.formats.registry import FORMATS
from posewire.imaging.draw import ImageType
from posewire.schemas.pose import (
    CocoPerson,
    PoseParams,
    PoseRequest,
    PoseResponse,
    describe,
    parse_boxes,
)
from posewire.server.access_log import ROUTE
from posewire.server.bodies import IMAGE_TYPES, UNNAMED_TYPE, EncodedImage, read_images
from posewire.server.estimation import admitted, estimate_all, loaded_engine, timeout_s
from posewire.server.limits import HeldBytes
from posewire.server.middleware import cancel_on_disconnect
from posewire.server.openapi import BINARY, TIMEOUT_HEADER, TRACING_HEADERS, problems, schema_of
from posewire.server.problems import reject
from posewire.server.services import Services, services_of
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var
from posewire.types import PoseOptions, PoseResult

PATH = "/v1/pose"

_DRAWN_TYPES: tuple[ImageType, ...] = ("image/jpeg", "image/png")

# The formats that `Accept` chooses if the query does not; the first is the default. Other media types belong to several formats.
_ACCEPTED_FORMATS = tuple(FORMATS[name] for name in ("posewire", "csv", "parquet"))

_TEXT = {"schema": {"type": "string"}}
_BINARY_TYPES = ("application/vnd.apache.parquet", "application/zip")
_TEXT_TYPES = ("text/csv", "text/plain", "application/xml")

# A PNG of one black pixel.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="

JSON_BODY: dict[str, Any] = {
    "schema": schema_of(PoseRequest, mode="validation"),
    "examples": {
        "one": {"summary": "One image", "value": {"images": [{"base64": _PIXEL}]}},
        "boxes": {"summary": "An image with a box", "value": {"images": [{"base64": _PIXEL, "boxes": [[0, 0, 1, 1]]}]}},
    },
}
_MULTIPART_BODY = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
        "required": ["image"],
    }
}
_BODY = {
    "required": True,
    "description": "One image as it is in its file, several as parts of a form, or JSON with images in base64.",
    "content": {
        **dict.fromkeys((*IMAGE_TYPES, UNNAMED_TYPE), BINARY),
        "multipart/form-data": _MULTIPART_BODY,
        "application/json": JSON_BODY,
    },
}

# The headers that every request with images may have, for the OpenAPI document, and the problems of its answer.
HEADER_PARAMETERS: list[dict[str, Any]] = [TIMEOUT_HEADER, *TRACING_HEADERS]
PROBLEMS = problems(
    *(BadPicture, BadBody, TimedOut, TooLarge, UnsupportedMediaType, UnsupportedEncoding, BadParameter, RateLimited),
    *(InferenceFailed, Overloaded, OutOfMemory, NotReady, Draining, DeadlineExceeded),
)

_NO_PARAMS = PoseParams.model_validate({})

router = APIRouter(tags=["poses"])


class PoseEndpoint:
    """ASGI application that answers `POST /v1/pose`, and passes every other request on to the router.

    It stands before the router because the router takes more CPU time for a request than all the rest of the server.
    The router has the same route for the documentation and for other methods.

    Args:
        app: the next application.
        services: of the application.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope[ROUTE] = PATH
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            self._services.admission.shed_load(request)
            return await pose(request, _params_of(request))
        except ServiceError as error:
            return reject(self._services.metrics, request.scope, error)


@router.post(
    PATH,
    operation_id="estimate_poses",
    summary="Find everyone in images and estimate their keypoints",
    response_class=Response,
    responses={
        200: {
            "description": "Everyone in each image, in the format that the caller chose; or the image with the skeletons on it.",
            "content": {
                # The last two are the formats of other programs.
                "application/json": {
                    "schema": schema_of(PoseResponse | list[CocoPerson] | dict[str, Any] | list[dict[str, Any]], name="PoseAnswer")
                },
                **dict.fromkeys((*_DRAWN_TYPES, *_BINARY_TYPES), BINARY),
                **dict.fromkeys(_TEXT_TYPES, _TEXT),
            },
        },
        **PROBLEMS,
        **problems(NotAcceptable, NotInstalled),
    },
    openapi_extra={"requestBody": _BODY, "parameters": HEADER_PARAMETERS},
)
async def pose(request: Request, params: Annotated[PoseParams, Query()]) -> Response:
    """Send an image file, a multipart form with `image` parts, or JSON with base64. `Content-Encoding` may be `gzip` or `deflate`.

    With `Accept: image/jpeg` or `image/png` the answer is the image with the skeletons on it.
    """
    services = services_of(request)
    engine = loaded_engine(services)
    chosen = _chosen(",".join(request.headers.getlist("accept")) or "*/*", params)
    if isinstance(chosen, Format):
        chosen.check(normalized=params.normalized)
    seconds = timeout_s(request.headers.get("x-request-timeout-ms"), services.settings.request_timeout_ms)
    deadline = asyncio.get_running_loop().time() + seconds

    async def read(held: HeldBytes) -> list[EncodedImage]:
        return await read_images(request, engine, parse_boxes(params.boxes), held)

    async with admitted(services, request, deadline, read) as images:
        if isinstance(chosen, str) and len(images) > 1:
            raise NotAcceptable("a drawn answer is for one image; send them one by one, or accept application/json")
        async with cancel_on_disconnect(request.receive):
            if isinstance(chosen, str):
                return Response(await _draw(engine, images[0], params, chosen, deadline), media_type=chosen)
            results = await estimate_all(engine, images, lambda image: _options(engine, image, params), deadline)
        if chosen.name == "posewire":
            return Response(_json(engine, results, params), media_type="application/json")
        body, media_type = await _converted(engine, results, chosen, params, deadline)
        return Response(body, media_type=media_type)


def _params_of(request: Request) -> PoseParams:
    """Return the parameters of the query. The last value of a repeated parameter counts.

    Raises:
        BadParameter: a parameter is unknown or has a bad value.
    """
    if not request.scope["query_string"]:
        return _NO_PARAMS
    try:
        return PoseParams.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise BadParameter(describe(error)) from None


def _chosen(accept: str, params: PoseParams) -> Format | ImageType:
    """Return the format, or the media type of the drawn image, that the caller prefers.

    The query chooses the format; without it, `Accept` does. The most specific range of `Accept` decides (RFC 9110, 12.5.1).

    Raises:
        NotAcceptable: the caller accepts none of ours.
    """
    if accept == "*/*":
        return FORMATS[params.format]
    first, *others = (FORMATS[params.format],) if "format" in params.model_fields_set else _ACCEPTED_FORMATS
    answers: dict[str, Format | ImageType] = {first.media_type: first}
    answers |= {drawn: drawn for drawn in _DRAWN_TYPES}
    answers |= {form.media_type: form for form in others}
    wanted: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        wanted[media_range] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality, re.ASCII) else 0.0

    def quality_of(media_type: str) -> float:
        ranges = (media_type, f"{media_type.split('/', maxsplit=1)[0]}/*", "*/*")
        return next((wanted[r] for r in ranges if r in wanted), 0.0)

    best = max(answers, key=quality_of)
    if not quality_of(best):
        raise NotAcceptable(f"accept {' or '.join(answers)}")
    return answers[best]


async def _draw(engine: Engine, image: EncodedImage, params: PoseParams, media_type: ImageType, deadline: float) -> bytes:
    result = await engine.estimate(image.data, _options(engine, image, params), deadline=deadline)
    threshold = params.min_keypoint_score if "min_keypoint_score" in params.model_fields_set else None
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        async with until(deadline, "before the image was drawn"):
            return await engine.offload(engine.draw, image.data, result, media_type, threshold)


def _options(engine: Engine, image: EncodedImage, params: PoseParams) -> PoseOptions:
    return engine.settings.pose_options(params.min_detection_score, params.max_people, image.boxes_xywh)


def _json(engine: Engine, results: Sequence[PoseResult], params: PoseParams) -> bytes:
    """Return the results as Posewire's own JSON."""
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        options = _format_options(engine, params)
        names, threshold = options.keypoints.names, options.min_keypoint_score
        response = {  # the fields of a `PoseResponse`, without a second validation
            "request_id": request_id_var.get() or "",
            "model": {"detector": engine.detector.spec.name, "pose": options.model},
            "images": [image_fields(result, names, threshold, scale_of(result, normalized=options.normalized)) for result in results],
        }
        return to_json(response)


async def _converted(engine: Engine, results: Sequence[PoseResult], form: Format, params: PoseParams, deadline: float) -> tuple[bytes, str]:
    """Return the results in another format, and the media type."""
    images, options = [ImagePoses(index, result) for index, result in enumerate(results)], _format_options(engine, params)
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        if form.name == "coco":  # it is as fast as Posewire's own JSON; a thread would take longer
            return form.document(images, options)
        async with until(deadline, "before the answer was written"):
            return await engine.offload(form.document, images, options)


def _format_options(engine: Engine, params: PoseParams) -> FormatOptions:
    spec = engine.pose.spec
    return FormatOptions(spec.keypoints, spec.name, params.min_keypoint_score, params.normalized)
