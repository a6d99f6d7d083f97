"""The JSON of `WS /v1/stream`. Coordinates are pixels of the upright frame, after EXIF orientation."""

from typing import Annotated, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from posewire.errors import BadMessage, BadParameter, ServiceError
from posewire.formats.posewire import image_fields
from posewire.schemas.pose import Limb, ModelNames, PersonOut, TimingsOut, describe
from posewire.types import PoseResult

M = TypeVar("M", bound=BaseModel)

# Every message of the service has all of its fields, also those with a default.
SENT = ConfigDict(json_schema_serialization_defaults_required=True)

# Far longer than a start or an acknowledgement.
_MAX_CHARACTERS = 4096


class StreamOptions(BaseModel):
    """The options that a client chooses for its stream."""

    model_config = ConfigDict(extra="forbid")

    track: bool = Field(True, description="Give each person a track_id that stays the same from frame to frame.")
    smooth: bool = Field(True, description="Reduce the jitter of the keypoints; only with track.")
    max_people: Annotated[int, Field(ge=1)] | None = Field(None, description="Limit of people per frame; the best are returned.")
    min_detection_score: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="People below this score are left out.")
    min_keypoint_score: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Keypoints below this score are left out.")


class StartMessage(StreamOptions):
    """The client's first message."""

    type: Literal["start"]


class AckMessage(BaseModel):
    """The client has processed this answer and all before it."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["ack"]
    seq: Annotated[int, Field(ge=0, description="The number of the answered frame.")]


class StreamLimits(BaseModel):
    """The limits of one stream."""

    max_bytes: int = Field(description="Bytes of one frame.")
    max_pixels: int = Field(description="Pixels of one frame.")
    max_people: int = Field(description="People of one frame.")
    credits: int = Field(description="Limit of answers without an acknowledgement.")
    deadline_ms: int = Field(description="Age at which a frame is dropped.")
    idle_s: float = Field(description="Seconds without a message after which the stream is closed.")


class StartedMessage(BaseModel):
    """The answer to the start message."""

    model_config = SENT

    type: Literal["started"] = "started"
    request_id: str = Field(description="The id of the stream in the service's log.")
    model: ModelNames
    keypoints: list[str] = Field(description="Names of the keypoints; `skeleton` has indices into this list.")
    skeleton: list[Limb] = Field(description="Pairs of keypoints that a limb connects.")
    limits: StreamLimits


class TrackedPerson(PersonOut):
    """One person of a stream."""

    model_config = SENT

    track_id: int | None = Field(None, description="The same number from frame to frame; null: not tracked.")


class _Answer(BaseModel):
    seq: int = Field(description="The number of the frame on this connection, from 0.")
    dropped: int = Field(description="Frames dropped since the last answer.")
    age_ms: float = Field(description="Milliseconds from the frame's last byte to the sending of this answer.")


class ResultMessage(_Answer):
    """Everyone in one frame."""

    model_config = SENT

    type: Literal["result"] = "result"
    width: int
    height: int
    people: list[TrackedPerson]
    timings_ms: TimingsOut

    @classmethod
    def from_result(
        cls, result: PoseResult, names: tuple[str, ...], min_keypoint_score: float, *, seq: int, dropped: int, age_ms: float, **more: object
    ) -> Self:
        """Return a result as it is sent; `more` are the fields of a subclass."""
        fields = image_fields(result, names, min_keypoint_score)
        return cls.model_validate({"seq": seq, "dropped": dropped, "age_ms": age_ms, **more, **fields})


class StreamProblem(BaseModel):
    """The fields of an error (RFC 9457)."""

    type: str = Field(description="A URN that names the kind of error, such as urn:posewire:problem:bad-picture.")
    title: str = Field(description="The same for every error of the type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and what to do.")

    @classmethod
    def from_error(cls, error: ServiceError) -> Self:
        """Return the problem as POST /v1/pose would answer it."""
        return cls(type=f"urn:posewire:problem:{error.slug}", title=error.title, status=error.status, detail=error.detail)


class ErrorMessage(_Answer):
    """The answer to a frame without a result; the stream continues."""

    model_config = SENT

    type: Literal["error"] = "error"
    problem: StreamProblem


Answer: TypeAlias = ResultMessage | ErrorMessage
ServerMessage: TypeAlias = Annotated[StartedMessage | ResultMessage | ErrorMessage, Field(discriminator="type")]

SERVER_MESSAGE: TypeAdapter[StartedMessage | ResultMessage | ErrorMessage] = TypeAdapter(ServerMessage)


def parse_start(text: str) -> StartMessage:
    """Parse the first message of a client.

    Raises:
        BadMessage: it is not JSON, or not of type "start".
        BadParameter: a field is not valid.
    """
    return _parse(text, StartMessage, BadParameter)


def parse_ack(text: str) -> AckMessage:
    """Parse a later text message of a client.

    Raises:
        BadMessage: it is not an acknowledgement.
    """
    return _parse(text, AckMessage, BadMessage)


def _parse(text: str, model: type[M], invalid: type[ServiceError]) -> M:
    """Parse a message; raise `invalid` if the type is right and a field is wrong."""
    [kind] = get_args(model.model_fields["type"].annotation)
    wanted = f'a text message is {{"type": "{kind}", …}} at this point'
    if len(text) > _MAX_CHARACTERS:
        raise BadMessage(f"{wanted}; this one has {len(text)} characters")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] in ("json_invalid", "model_type") or first["loc"] == ("type",):
            raise BadMessage(f"{wanted}; {describe(error)}") from None
        raise invalid(describe(error)) from None
