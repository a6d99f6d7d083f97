"""The JSON of videos: one line per frame. Coordinates are pixels of the upright frame with square pixels."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, Field

from posewire.formats.posewire import image_fields
from posewire.schemas.pose import ModelNames, TimingsOut
from posewire.schemas.stream import SENT, StreamProblem, TrackedPerson
from posewire.types import FloatArray, PoseResult


class FrameLine(BaseModel):
    """Everyone in one frame, best first."""

    model_config = SENT

    type: Literal["frame"] = "frame"
    frame: int = Field(description="The frame's number, from 0.")
    pts_s: float = Field(description="Seconds from the first frame, by the video's own clock; where that goes back or jumps, it goes on.")
    width: int = Field(description="Pixels of the frame as it is shown: upright, with square pixels.")
    height: int
    people: list[TrackedPerson]
    timings_ms: TimingsOut

    @classmethod
    def from_result(
        cls,
        result: PoseResult,
        names: tuple[str, ...],
        min_keypoint_score: float,
        scale: FloatArray | None = None,
        *,
        frame: int,
        pts_s: float,
        **more: Any,
    ) -> Self:
        """Return a frame as it is sent; `scale` (2,) divides x and y; `more` has the fields of a subclass."""
        fields = image_fields(result, names, min_keypoint_score, scale)
        return cls.model_validate({"frame": frame, "pts_s": round(pts_s, 6), **fields, **more})


class WatchLine(FrameLine):
    """Everyone in one frame of a camera; `pts_s` is by our clock."""

    time: str = Field(description="Time of the answer, UTC.")
    dropped: int = Field(description="Frames dropped since the last line.")
    age_ms: float = Field(description="From the moment at which the frame was received and decoded to the answer.")


class VideoLine(BaseModel):
    """The first line of an answer: the properties of the video."""

    model_config = SENT

    type: Literal["video"] = "video"
    request_id: str
    model: ModelNames
    width: int = Field(description="Pixels of the first frame as it is shown: upright, with square pixels.")
    height: int
    frame_rate: float = Field(description="Frames per second, on average.")
    frames: int | None = Field(description="Approximate number of frames; null: not known before the end.")
    duration_s: float | None = Field(description="Of the frames, whatever the sound lasts.")


class EndLine(BaseModel):
    """The last line of a complete answer."""

    model_config = SENT

    type: Literal["end"] = "end"
    frames: int
    people: int = Field(description="Number of different track ids.")


class ErrorLine(BaseModel):
    """The last line of an incomplete answer: the error (RFC 9457)."""

    model_config = SENT

    type: Literal["error"] = "error"
    problem: StreamProblem


# One line of the answer of POST /v1/video.
AnswerLine: TypeAlias = Annotated[VideoLine | FrameLine | EndLine | ErrorLine, Field(discriminator="type")]
