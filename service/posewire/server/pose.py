"""POST /v1/pose: images in, people out."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from posewire.engine.engine import Engine
from posewire.errors import (
    BadBody,
    BadParameter,
    BadPicture,
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    NotAcceptable,
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
from posewire.imaging.draw import PictureType
from posewire.schemas.pose import (
    CocoPerson,
    PoseParams,
    PoseRequest,
    PoseResponse,
    coco_rows,
    describe,
    image_fields,
    parse_boxes,
)
from posewire.server.access_log import ROUTE, SHED
from posewire.server.bodies import IMAGE_TYPES, UNNAMED_TYPE, EncodedImage, read_images
from posewire.server.limits import client_of
from posewire.server.middleware import cancel_on_disconnect
from posewire.server.openapi import BINARY, TIMEOUT_HEADER, TRACING_HEADERS, problems, schema_of
from posewire.server.problems import reject
from posewire.server.services import Services, services_of
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var
from posewire.types import PoseOptions, PoseResult

ResponseType: TypeAlias = Literal["application/json"] | PictureType

PATH = "/v1/pose"

# The first is given where the caller does not choose.
_RESPONSE_TYPES: tuple[ResponseType, ...] = ("application/json", "image/jpeg", "image/png")

_COCO_ROWS = TypeAdapter(list[CocoPerson])

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

# The headers and the answers that every request with images may have.
HEADERS: list[dict[str, Any]] = [TIMEOUT_HEADER, *TRACING_HEADERS]
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
        if overloaded := self._services.admission.shed_load():
            request.scope[SHED] = True
            return reject(self._services.metrics, overloaded)
        try:
            return await pose(request, _params_of(request))
        except ServiceError as error:
            return reject(self._services.metrics, error)


@router.post(
    PATH,
    operation_id="estimate_poses",
    summary="Find everyone in images and estimate their keypoints",
    response_class=Response,
    responses={
        200: {
            "description": "Everyone in each image, in the format that the caller chose; or the image with the skeletons on it.",
            "content": {
                "application/json": {"schema": schema_of(PoseResponse | list[CocoPerson], name="PoseAnswer")},
                **dict.fromkeys(("image/jpeg", "image/png"), BINARY),
            },
        },
        **PROBLEMS,
        **problems(NotAcceptable),
    },
    openapi_extra={"requestBody": _BODY, "parameters": HEADERS},
)
async def pose(request: Request, params: Annotated[PoseParams, Query()]) -> Response:
    """Send an image file, a multipart form with `image` parts, or JSON with base64. `Content-Encoding` may be `gzip` or `deflate`.

    With `Accept: image/jpeg` or `image/png` the answer is the image with the skeletons on it.
    """
    services = services_of(request)
    engine = services.engine
    if engine is None:
        raise NotReady("the models are not loaded yet; try again", retry_after_s=1)
    response_type = _response_type(",".join(request.headers.getlist("accept")) or "*/*")
    timeout_s = _timeout_s(request.headers.get("x-request-timeout-ms"), services.settings.request_timeout_ms)
    deadline = asyncio.get_running_loop().time() + timeout_s
    services.rate_limit.charge(request, 1)
    with services.body_bytes.enter(client_of(request)) as held:
        async with _until(deadline, "before the body had arrived"):
            images = await read_images(request, engine, parse_boxes(params.boxes), held)
        services.rate_limit.charge(request, len(images) - 1)
        with services.admission.enter(len(images)):
            if response_type != "application/json" and len(images) > 1:
                raise NotAcceptable("a drawn answer is for one picture; send them one by one, or accept application/json")
            async with cancel_on_disconnect(request.receive):
                if response_type != "application/json":
                    return Response(await _draw(engine, images[0], params, response_type, deadline), media_type=response_type)
                results = await _estimate_all(engine, images, params, deadline)
            return Response(_json(engine, results, params), media_type="application/json")


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


def _timeout_s(given: str | None, max_ms: int) -> float:
    """Return the seconds that a request may take.

    Args:
        given: value of `X-Request-Timeout-Ms`; None: the caller sent none.
        max_ms: the operator's limit, milliseconds.

    Raises:
        BadParameter: the value is not a number of milliseconds.
    """
    if given is None:
        return max_ms / 1000
    if not re.fullmatch(r"[1-9]\d{0,8}", given, re.ASCII):
        raise BadParameter(f"X-Request-Timeout-Ms: {given!r} is not a positive whole number of milliseconds")
    return min(int(given), max_ms) / 1000


def _response_type(accept: str) -> ResponseType:
    """Return the media type that the caller prefers; the most specific range decides (RFC 9110, 12.5.1).

    Raises:
        NotAcceptable: the caller accepts none of ours.
    """
    if accept == "*/*":
        return _RESPONSE_TYPES[0]
    wanted: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        wanted[media_range] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality, re.ASCII) else 0.0

    def quality_of(response_type: ResponseType) -> float:
        ranges = (response_type, f"{response_type.split('/')[0]}/*", "*/*")
        return next((wanted[r] for r in ranges if r in wanted), 0.0)

    best = max(_RESPONSE_TYPES, key=quality_of)
    if not quality_of(best):
        raise NotAcceptable("accept application/json, image/jpeg or image/png")
    return best


async def _estimate_all(engine: Engine, images: Sequence[EncodedImage], params: PoseParams, deadline: float) -> list[PoseResult]:
    """Estimate all images side by side; the first that fails cancels the others."""

    async def one(index: int, image: EncodedImage) -> PoseResult:
        try:
            return await engine.estimate(image.data, _options(engine, image, params), deadline=deadline)
        except ServiceError as error:
            if len(images) > 1 and error.status < 500:  # from 500 on the image is not at fault
                error.image = index
            raise

    if len(images) == 1:
        return [await one(0, images[0])]
    tasks = [asyncio.create_task(one(i, image)) for i, image in enumerate(images)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _draw(engine: Engine, image: EncodedImage, params: PoseParams, media_type: PictureType, deadline: float) -> bytes:
    result = await engine.estimate(image.data, _options(engine, image, params), deadline=deadline)
    threshold = params.min_keypoint_score if "min_keypoint_score" in params.model_fields_set else None
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        async with _until(deadline, "before the picture was drawn"):
            return await engine.offload(engine.draw, image.data, result, media_type, threshold)


def _options(engine: Engine, image: EncodedImage, params: PoseParams) -> PoseOptions:
    return engine.settings.pose_options(params.min_detection_score, params.max_people, image.boxes_xywh)


def _json(engine: Engine, results: Sequence[PoseResult], params: PoseParams) -> bytes:
    """Return the results as JSON, in the format that the caller chose."""
    threshold = params.min_keypoint_score
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        if params.format == "coco":
            return _COCO_ROWS.dump_json([row for i, result in enumerate(results) for row in coco_rows(result, i, threshold)])
        names = engine.pose.spec.keypoints.names
        response = {  # the fields of a `PoseResponse`, without a second validation
            "request_id": request_id_var.get() or "",
            "model": {"detector": engine.detector.spec.name, "pose": engine.pose.spec.name},
            "images": [image_fields(result, names, threshold) for result in results],
        }
        return to_json(response)


@asynccontextmanager
async def _until(deadline: float, phase: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the deadline passed {phase}") from None
