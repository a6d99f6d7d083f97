"""POST /v1/pose: images in, people out."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from posewire.engine.engine import Engine
from posewire.errors import BadParameter, NotAcceptable, ServiceError
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
from posewire.server.access_log import ROUTE
from posewire.server.bodies import IMAGE_TYPES, UNNAMED_TYPE, EncodedImage, read_images
from posewire.server.estimation import admitted, estimate_all, loaded_engine, shed_load, timeout_s, until
from posewire.server.limits import HeldBytes
from posewire.server.middleware import cancel_on_disconnect
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

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys((*IMAGE_TYPES, UNNAMED_TYPE), _IMAGE),
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["image"],
            }
        },
        # A reference starts at the document's root, not at this schema.
        "application/json": {
            "schema": PoseRequest.model_json_schema(
                ref_template="#/paths/~1v1~1pose/post/requestBody/content/application~1json/schema/$defs/{model}"
            )
        },
    },
}
_TIMEOUT_HEADER = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "required": False,
    "schema": {"type": "integer", "minimum": 1},
    "description": "Milliseconds after which the answer is of no use: then 504.",
}

_NO_PARAMS = PoseParams.model_validate({})

router = APIRouter()


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
            shed_load(self._services, request)
            return await pose(request, _params_of(request))
        except ServiceError as error:
            return reject(self._services.metrics, error)


@router.post(
    PATH,
    summary="Find everyone in pictures and place their keypoints",
    response_model=None,
    responses={
        200: {"model": PoseResponse | list[CocoPerson], "content": dict.fromkeys(("image/jpeg", "image/png"), _IMAGE)},
        "default": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"schema": {"type": "object"}}}},
    },
    openapi_extra={"requestBody": _BODY, "parameters": [_TIMEOUT_HEADER]},
)
async def pose(request: Request, params: Annotated[PoseParams, Query()]) -> Response:
    """Raw picture, multipart with `image` parts, or JSON with base64; `Content-Encoding` may be `gzip` or `deflate`.

    `Accept: image/jpeg` or `image/png` draws.
    """
    services = services_of(request)
    engine = loaded_engine(services)
    response_type = _response_type(",".join(request.headers.getlist("accept")) or "*/*")
    seconds = timeout_s(request.headers.get("x-request-timeout-ms"), services.settings.request_timeout_ms)
    deadline = asyncio.get_running_loop().time() + seconds

    async def read(held: HeldBytes) -> list[EncodedImage]:
        return await read_images(request, engine, parse_boxes(params.boxes), held)

    async with admitted(services, request, deadline, read) as images:
        if response_type != "application/json" and len(images) > 1:
            raise NotAcceptable("a drawn answer is for one picture; send them one by one, or accept application/json")
        async with cancel_on_disconnect(request.receive):
            if response_type != "application/json":
                return Response(await _draw(engine, images[0], params, response_type, deadline), media_type=response_type)
            results = await estimate_all(engine, images, lambda image: _options(engine, image, params), deadline)
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


async def _draw(engine: Engine, image: EncodedImage, params: PoseParams, media_type: PictureType, deadline: float) -> bytes:
    result = await engine.estimate(image.data, _options(engine, image, params), deadline=deadline)
    threshold = params.min_keypoint_score if "min_keypoint_score" in params.model_fields_set else None
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        async with until(deadline, "before the picture was drawn"):
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
