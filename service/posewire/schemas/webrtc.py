"""The JSON that a WebRTC data channel has beside that of `WS /v1/stream`."""

from typing import Literal

from pydantic import BaseModel, Field

from posewire.schemas.stream import SENT, ResultMessage, StreamProblem


class VideoResultMessage(ResultMessage):
    """Everyone in one frame of a video track."""

    model_config = SENT

    pts_s: float = Field(description="Seconds from the first frame that arrived to this one, by the clock of the sender's track.")


class EndedMessage(BaseModel):
    """The last message of the service: it ends the session for a reason."""

    model_config = SENT

    type: Literal["ended"] = "ended"
    problem: StreamProblem
