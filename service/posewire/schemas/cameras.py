"""The JSON of `/v1/cameras`."""

from typing import Annotated, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posewire.schemas.events import Event, Rule
from posewire.schemas.sinks import Sink, check_addresses
from posewire.types import CameraState

CameraName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    fps: Annotated[float, Field(gt=0, le=240)] | None = Field(
        None, description="Limit of frames a second; null: as many as can be processed."
    )
    detect_every: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="The most frames from one run of the detector to the next.")
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per frame; null: the service's.")
    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below this score are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Keypoints below this score are left out.")
    enabled: bool = Field(True, description="False: it is kept, and not watched.")


class CameraSpec(_Options):
    """A camera, as it is given to the service."""

    name: CameraName = Field(description="Small letters, digits, - and _.")
    source: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="An rtsp://, rtsps://, http:// or https:// address (Motion JPEG, HLS), a device such as /dev/video0, or a file. "
        "An address may hold a user and a password."
    )
    rules: Annotated[tuple[Rule, ...], Field(max_length=256)] = Field((), description="That give events.")
    sinks: Annotated[tuple[Sink, ...], Field(max_length=16)] = Field((), description="That get messages.")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two rules have the name {twice!r}")
        check_addresses(self.sinks)
        return self


class CameraPatch(BaseModel):
    """Changes of a camera; fields that are not given stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    fps: Annotated[float, Field(gt=0, le=240)] | None = None
    detect_every: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_people: Annotated[int, Field(ge=1)] | None = None
    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = None
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] | None = None
    enabled: bool | None = None
    rules: Annotated[tuple[Rule, ...], Field(max_length=256)] | None = None
    sinks: Annotated[tuple[Sink, ...], Field(max_length=16)] | None = None


class CameraStatus(BaseModel):
    """How a camera is doing."""

    state: CameraState = Field(
        description="off: not enabled. connecting: not connected yet. live: frames come. waiting: the source is away and is tried again. "
        "ended: a recording is at its end. failed: it is not tried again before it is changed."
    )
    detail: str | None = Field(description="What is wrong, and what is done about it; null: nothing is.")
    frames: int = Field(description="Frames with a result, since the service started or the camera was changed.")
    dropped: int = Field(description="Frames that were left out, because newer ones had come or `fps` is lower.")
    failed: int = Field(description="Frames without a result: the service was at its limit, or the model run failed.")
    reconnects: int = Field(description="How often the source was lost.")
    age_s: float | None = Field(description="Seconds since the last frame with a result; null: there was none.")
    people: int | None = Field(description="People in that frame.")


class CameraOut(_Options):
    """A camera, as the service answers: without credentials."""

    name: CameraName
    source: str = Field(description="Without user and password.")
    credentials: bool = Field(description="The source has a user or a password, which is never answered.")
    rules: tuple[Rule, ...]
    sinks: tuple[Sink, ...] = Field(description="Secrets are masked, and addresses have no user and password.")
    status: CameraStatus


class CamerasOut(BaseModel):
    """All cameras, by name."""

    cameras: list[CameraOut]


class CameraEvent(BaseModel):
    """An event of one of all cameras."""

    camera: CameraName
    time: str = Field(description="When it was noticed: ISO 8601, UTC.")
    message: Event
