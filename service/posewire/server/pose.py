"""POST /v1/pose: pictures in, people out."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Literal, TypeAlias

from fastapi import FastAPI, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import QueryParams

from posewire.engine.engine import Engine
from posewire.errors import BadParameter, DeadlineExceeded, NotAcceptable, NotReady, ServiceError
from posewire.imaging.draw import PictureType
from posewire.schemas.pose import CocoPerson, PoseParams, PoseRequest, PoseResponse, coco_rows, describe, parse_boxes
from posewire.server.answers import pose_response
from posewire.server.bodies import PICTURE_TYPES, PictureIn, read_pictures
from posewire.server.presence import while_there
from posewire.server.problems import reject
from posewire.server.services import services_of
from posewire.telemetry import tracing
from posewire.telemetry.logs import request_id_var
from posewire.types import PoseOptions, PoseResult

AnswerType: TypeAlias = Literal["application/json"] | PictureType

# What may be given, the first where the caller does not care.
_ANSWERS: tuple[AnswerType, ...] = ("application/json", "image/jpeg", "image/png")

_COCO_ROWS = TypeAdapter(list[CocoPerson])

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys(PICTURE_TYPES, _PICTURE),
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

PATH = "/v1/pose"

_NO_PARAMS = PoseParams.model_validate({})


def install(app: FastAPI) -> None:
    """Add the route: it documents what `answer` does, and tells who does not POST."""
    app.router.add_api_route(
        PATH,
        pose,
        methods=["POST"],
        summary="Find everyone in pictures and place their keypoints",
        response_model=None,
        responses={
            200: {"model": PoseResponse | list[CocoPerson], "content": dict.fromkeys(("image/jpeg", "image/png"), _PICTURE)},
            "default": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {"schema": {"type": "object"}}}},
        },
        openapi_extra={"requestBody": _BODY, "parameters": [_TIMEOUT_HEADER]},
    )


async def answer(request: Request) -> Response:
    """What `pose` answers, or the problem."""
    try:
        return await pose(request, params_of(request.query_params))
    except ServiceError as error:
        return reject(services_of(request), error)


async def pose(request: Request, params: Annotated[PoseParams, Query()]) -> Response:
    """Raw picture, multipart with `image` parts, or JSON with base64. `Accept: image/jpeg` or `image/png` draws."""
    services = services_of(request)
    engine = services.engine
    if engine is None:
        raise NotReady("the models are not loaded yet; try again", retry_after_s=1)
    form = _answer_type(",".join(request.headers.getlist("accept")) or "*/*")
    deadline = asyncio.get_running_loop().time() + timeout_s(
        request.headers.get("x-request-timeout-ms"), services.settings.request_timeout_ms
    )
    services.rate_limit.charge(request, 1)
    with services.admission.enter(1):
        async with _until(deadline, "before the body had arrived"):
            pictures = await read_pictures(request, engine, parse_boxes(params.boxes))
        services.rate_limit.charge(request, len(pictures) - 1)
        with services.admission.enter(len(pictures) - 1):
            if form != "application/json" and len(pictures) > 1:
                raise NotAcceptable("a drawn answer is for one picture; send them one by one, or accept application/json")
            async with while_there(request):
                if form != "application/json":
                    return Response(await _draw(engine, pictures[0], params, form, deadline), media_type=form)
                results = await _estimate_all(engine, pictures, params, deadline)
            return Response(answer_body(engine, results, params), media_type="application/json")


def params_of(query: QueryParams) -> PoseParams:
    """The query, of whose repeated parameters the last one counts.

    Raises:
        BadParameter: one is unknown or has a bad value.
    """
    if not query:
        return _NO_PARAMS
    try:
        return PoseParams.model_validate(dict(query))
    except ValidationError as error:
        raise BadParameter(describe(error)) from None


def timeout_s(given: str | None, most_ms: int) -> float:
    """How long a caller waits, who gave `X-Request-Timeout-Ms` or not: no longer than the operator lets one, in seconds.

    Raises:
        BadParameter: it is no number of milliseconds.
    """
    if given is None:
        return most_ms / 1000
    if not re.fullmatch(r"[1-9]\d{0,8}", given, re.ASCII):
        raise BadParameter(f"X-Request-Timeout-Ms: {given!r} is not a positive whole number of milliseconds")
    return min(int(given), most_ms) / 1000


def _answer_type(accept: str) -> AnswerType:
    """The media type of ours that the caller wants most; the most specific range decides (RFC 9110, 12.5.1)."""
    if accept == "*/*":
        return _ANSWERS[0]
    wanted: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_range, *parameters = (part.strip() for part in entry.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        wanted[media_range] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality, re.ASCII) else 0.0

    def quality_of(answer: AnswerType) -> float:
        ranges = (answer, f"{answer.split('/')[0]}/*", "*/*")
        return next((wanted[r] for r in ranges if r in wanted), 0.0)

    best = max(_ANSWERS, key=quality_of)
    if not quality_of(best):
        raise NotAcceptable("accept application/json, image/jpeg or image/png")
    return best


async def _estimate_all(engine: Engine, pictures: Sequence[PictureIn], params: PoseParams, deadline: float) -> list[PoseResult]:
    """All pictures side by side; the first that fails ends the others. Only the results stay: frames are large."""

    async def one(index: int, picture: PictureIn) -> PoseResult:
        try:
            return await engine.estimate(picture.data, _options(engine, picture, params), deadline=deadline)
        except ServiceError as error:
            if len(pictures) > 1 and error.status < 500:  # above, the picture is not at fault
                error.image = index
            raise

    if len(pictures) == 1:
        return [await one(0, pictures[0])]
    tasks = [asyncio.create_task(one(i, picture)) for i, picture in enumerate(pictures)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _draw(engine: Engine, picture: PictureIn, params: PoseParams, form: PictureType, deadline: float) -> bytes:
    result = await engine.estimate(picture.data, _options(engine, picture, params), deadline=deadline)
    threshold = params.min_keypoint_score if "min_keypoint_score" in params.model_fields_set else None
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        async with _until(deadline, "before the picture was drawn"):
            return await engine.offload(engine.draw, picture.data, result, form, threshold)


def _options(engine: Engine, picture: PictureIn, params: PoseParams) -> PoseOptions:
    return engine.settings.pose_options(params.min_detection_score, params.max_people, picture.boxes_xywh)


def answer_body(engine: Engine, results: Sequence[PoseResult], params: PoseParams) -> bytes:
    """JSON of what was found, of the format that the caller chose."""
    with engine.metrics.time_stage("encode"), tracing.stage("encode"):
        if params.format == "coco":
            rows = [row for i, result in enumerate(results) for row in coco_rows(result, i, params.min_keypoint_score)]
            return _COCO_ROWS.dump_json(rows)
        return pose_response(
            request_id_var.get() or "",
            engine.detector.spec.name,
            engine.pose.spec.name,
            results,
            engine.pose.spec.keypoints.names,
            params.min_keypoint_score,
        )


@asynccontextmanager
async def _until(deadline: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the deadline passed {what}") from None
