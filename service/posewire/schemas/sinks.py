"""The JSON of sinks, which send a camera's messages to others, and of what they send."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from posewire.errors import BadParameter
from posewire.schemas.pose import describe

# event: of a rule. state: who is there, sent when it changes. result: everyone in a frame.
MessageKind: TypeAlias = Literal["event", "state", "result"]

_HTTP = r"^https?://[^\s/]+(/\S*)?$"
_MQTT = r"^mqtts?://[^\s/]+/?$"
_TOPIC = r"^[^\s#+/$][^\s#+]*$"


class _Sink(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    send: tuple[MessageKind, ...] = Field(("event",), min_length=1, description="The kinds of messages.")


class FileSink(_Sink):
    """A file of JSON lines. When it is full, it gets the suffix .1, the one before .2, and so on."""

    kind: Literal["file"]
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    max_bytes: Annotated[int, Field(ge=1_000, le=10**12)] = Field(100_000_000, description="Bytes of one file.")
    keep: Annotated[int, Field(ge=0, le=1000)] = Field(5, description="Files that are kept besides the newest.")


class WebhookSink(_Sink):
    """An address that gets each message as an HTTP POST."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=_HTTP, max_length=2048)]
    secret: SecretStr | None = Field(None, description="Signs each request with HMAC-SHA-256; null: not signed.")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(10.0, description="Of one request.")


class MqttSink(_Sink):
    """A broker of MQTT."""

    kind: Literal["mqtt"]
    url: Annotated[str, Field(pattern=_MQTT, max_length=2048)] = Field(description="mqtt://user:password@host:port, or mqtts:// with TLS.")
    topic: Annotated[str, Field(pattern=_TOPIC, max_length=256)] = Field(
        "posewire", description="Messages go to TOPIC/CAMERA/event, …/state and …/result."
    )
    qos: Literal[0, 1, 2] = 1
    home_assistant: bool = Field(False, description="Announce the camera to Home Assistant (MQTT discovery); sends `state` as well.")


Sink: TypeAlias = Annotated[FileSink | WebhookSink | MqttSink, Field(discriminator="kind")]


def address_of(sink: FileSink | WebhookSink | MqttSink) -> str:
    """Return what tells a sink from the others of a camera: its kind and address, without user and password."""
    if isinstance(sink, FileSink):
        return f"{sink.kind} {sink.path}"
    url = urlsplit(sink.url)
    address = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
    return f"{sink.kind} {address} {sink.topic}" if isinstance(sink, MqttSink) else f"{sink.kind} {address}"


def check_addresses(sinks: Sequence[FileSink | WebhookSink | MqttSink]) -> None:
    """Return if all sinks differ.

    Raises:
        ValueError: two have the same address, and would take each other's messages.
    """
    addresses = [address_of(sink) for sink in sinks]
    if len(set(addresses)) < len(addresses):
        raise ValueError("two sinks have the same address; one sink sends all kinds of messages")


_SINKS: TypeAdapter[list[Sink]] = TypeAdapter(Annotated[list[Sink], Field(max_length=16, fail_fast=True)])


def parse_sinks(text: str | bytes) -> list[Sink]:
    """Parse a JSON list of sinks.

    Raises:
        BadParameter: it is not JSON, a sink is not valid, or two have the same address.
    """
    try:
        sinks = _SINKS.validate_json(text)
        check_addresses(sinks)
    except ValidationError as error:
        raise BadParameter(f"sinks: {describe(error)}") from None
    except ValueError as error:
        raise BadParameter(f"sinks: {error}") from None
    return sinks


class ZoneState(BaseModel):
    """A rule for people in a zone."""

    people: int


class State(BaseModel):
    """A rule for people in view."""

    type: Literal["state"] = "state"
    time_s: float = Field(description="The time of the frame since which it is so.")
    people: int = Field(description="People in the frame.")
    zones: dict[str, ZoneState] = Field(description="By the names of the rules.")


class Delivery(BaseModel):
    """A message that a sink sends, with the fields that identify it."""

    id: str = Field(description="The same for the same message, whenever and how often it is sent.")
    attempt: int = Field(description="From 1. Above 1 an earlier attempt may have arrived as well.")
    camera: str
    time: str = Field(description="When the message was made: ISO 8601, UTC.")
    kind: MessageKind
    message: dict[str, Any]
