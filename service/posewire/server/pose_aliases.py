"""Paths below POST /v1/pose that take one media type and answer one.

They are for clients that a program generates from the OpenAPI document. A generator that meets several media types in one operation
chooses one of them, not always the one that the body has, and it joins the types of all answers.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from posewire.schemas.pose import BoxesParam, PoseParams, PoseResponse
from posewire.server.openapi import BINARY, Responses, schema_of
from posewire.server.pose import HEADER_PARAMETERS, JSON_BODY, PROBLEMS, pose
from posewire.server.services import services_of

_FILE = {
    "requestBody": {
        "required": True,
        "description": "One image as it is in its file: JPEG, PNG, WebP or BMP.",
        "content": {"application/octet-stream": BINARY},
    },
    "parameters": HEADER_PARAMETERS,
}
_JSON = {"requestBody": {"required": True, "content": {"application/json": JSON_BODY}}, "parameters": HEADER_PARAMETERS}
_PEOPLE: Responses = {
    200: {"description": "Everyone in each image.", "content": {"application/json": {"schema": schema_of(PoseResponse)}}},
    **PROBLEMS,
}
_DRAWING: Responses = {200: {"description": "The image with the skeletons on it.", "content": {"image/jpeg": BINARY}}, **PROBLEMS}

router = APIRouter(tags=["poses"])


class PeopleParams(BaseModel):
    """The query of POST /v1/pose/json."""

    model_config = ConfigDict(extra="forbid")

    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below this score are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="Keypoints below this score are left out.")
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per image; the best are returned.")


class ImageParams(PeopleParams):
    """The query of POST /v1/pose/image and POST /v1/pose/drawing."""

    boxes: BoxesParam | None = Field(
        None, description="JSON [[x, y, width, height], …] in pixels of the upright image: the detector is skipped."
    )


@router.post(
    "/v1/pose/image",
    operation_id="estimate_poses_in_image",
    summary="Find everyone in one image",
    response_class=Response,
    responses=_PEOPLE,
    openapi_extra=_FILE,
)
async def pose_in_image(request: Request, params: Annotated[ImageParams, Query()]) -> Response:
    """`POST /v1/pose` with an image file as the body, and a `PoseResponse` as the answer."""
    return await _pose(request, params, "application/json")


@router.post(
    "/v1/pose/json",
    operation_id="estimate_poses_from_json",
    summary="Find everyone in images in base64",
    response_class=Response,
    responses=_PEOPLE,
    openapi_extra=_JSON,
)
async def pose_from_json(request: Request, params: Annotated[PeopleParams, Query()]) -> Response:
    """`POST /v1/pose` with a `PoseRequest` as the body, and a `PoseResponse` as the answer."""
    return await _pose(request, params, "application/json")


@router.post(
    "/v1/pose/drawing",
    operation_id="draw_poses",
    summary="Draw the skeletons on one image",
    response_class=Response,
    responses=_DRAWING,
    openapi_extra=_FILE,
)
async def pose_drawing(request: Request, params: Annotated[ImageParams, Query()]) -> Response:
    """`POST /v1/pose` with an image file as the body, and a JPEG file with the skeletons as the answer."""
    return await _pose(request, params, "image/jpeg")


async def _pose(request: Request, params: PeopleParams, accept: str) -> Response:
    """Answer as POST /v1/pose answers a request with this `Accept`."""
    services_of(request).admission.shed_load(request)
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"accept"]
    scope = {**request.scope, "headers": [*headers, (b"accept", accept.encode())]}
    return await pose(Request(scope, request.receive), PoseParams.model_validate(params.model_dump(exclude_none=True)))
