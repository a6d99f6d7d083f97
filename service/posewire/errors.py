"""Everything that Posewire refuses or fails at, as one tree.

A class says how its errors look from outside: HTTP status, WebSocket close code, problem type and title. The message of an instance is
written for the caller: what is wrong and what to do. Whatever is not a `ServiceError` never reaches a client in words.
"""

from collections.abc import Iterator
from typing import ClassVar


class PosewireError(Exception):
    """Base of every error that Posewire raises on purpose; its message is one line that says what to do."""


class ConfigError(PosewireError):
    """A setting is unknown or has a bad value."""


class ModelError(PosewireError):
    """A model file is missing, damaged or not what the manifest says."""


class DeviceError(PosewireError):
    """The device that was asked for cannot be used here."""


class ConnectionLost(PosewireError):
    """The service cannot be reached, or no longer."""


class UnexpectedAnswer(PosewireError):
    """What answers does not answer as Posewire does."""


class ServiceError(PosewireError):
    """An error with an answer of its own on the wire (RFC 9457)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    close_code: ClassVar[int] = 1011  # of the WebSocket that the error ends (RFC 6455; 4000 and above are ours)

    def __init__(self, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.image = image  # index of the picture in the request that is at fault
        self.retry_after_s = retry_after_s  # whole seconds


class BadPicture(ServiceError):
    """The bytes are not a still picture that can be decoded."""

    status, slug, title = 400, "bad-picture", "The picture cannot be decoded"
    close_code = 4415


class BadBody(ServiceError):
    """The request's body is not what its media type says."""

    status, slug, title = 400, "bad-body", "The body cannot be parsed"


class Unauthorized(ServiceError):
    """No API key, or none that is known."""

    status, slug, title = 401, "unauthorized", "An API key is needed"
    close_code = 4401


class ForeignOrigin(ServiceError):
    """A page of another site opens a stream."""

    status, slug, title = 403, "foreign-origin", "The page's origin is not allowed"
    close_code = 4403


class TooLarge(ServiceError):
    """Too many bytes, pixels or pictures."""

    status, slug, title = 413, "too-large", "The request is too large"
    close_code = 1009


class UnsupportedMediaType(ServiceError):
    """Neither a picture of a supported kind, nor multipart, nor JSON."""

    status, slug, title = 415, "unsupported-media-type", "The media type is not supported"


class BadVideo(ServiceError):
    """Not a video that can be decoded, or damaged in the middle."""

    status, slug, title = 400, "bad-video", "The video cannot be decoded"


class NotInstalled(ServiceError):
    """This installation lacks the extra that the request needs."""

    status, slug, title = 501, "not-installed", "This is not installed here"


class NoSpace(ServiceError):
    """An upload cannot be kept while it is worked on."""

    status, slug, title = 507, "no-space", "There is no room for the upload"


class BadParameter(ServiceError):
    """A query parameter, header or JSON field has a bad value."""

    status, slug, title = 422, "bad-parameter", "A parameter is not valid"
    close_code = 4422


class RateLimited(ServiceError):
    """One client sends more than it may; others are not held up by it."""

    status, slug, title = 429, "rate-limited", "Too many pictures from this client"


class TooManyStreams(ServiceError):
    """One client has as many streams open as it may."""

    status, slug, title = 429, "too-many-streams", "Too many streams of this client"
    close_code = 4430  # unlike 4429 it passes: when the client closes another, or its lost one is noticed


class Overloaded(ServiceError):
    """The service is full; the caller may try again."""

    status, slug, title = 503, "overloaded", "The service is at its limit"
    close_code = 1013


class Draining(ServiceError):
    """The service is about to stop."""

    status, slug, title = 503, "draining", "The service is stopping"
    close_code = 1012


class NotReady(ServiceError):
    """The models are not loaded yet."""

    status, slug, title = 503, "not-ready", "The service is not ready"
    close_code = 1013


class DeadlineExceeded(ServiceError):
    """The request's time was over before its answer was there."""

    status, slug, title = 504, "deadline-exceeded", "The deadline has passed"


class InferenceFailed(ServiceError):
    """A model run raised; the next one may work."""

    status, slug, title = 500, "inference-failed", "The model run failed"


class NotAcceptable(ServiceError):
    """The caller accepts no form in which this answer can be given."""

    status, slug, title = 406, "not-acceptable", "The answer cannot be given in the form asked for"


class ClientGone(ServiceError):
    """The caller closed the connection; nobody reads this answer, but it is counted."""

    status, slug, title = 499, "client-gone", "The client has gone"

    def __init__(self, detail: str = "the client has closed the connection") -> None:
        super().__init__(detail)


class BadMessage(ServiceError):
    """A WebSocket message that the protocol does not know, or not at this point."""

    status, slug, title = 400, "bad-message", "The message is not understood"
    close_code = 4400


class TimedOut(ServiceError):
    """The other end of a WebSocket was silent for too long."""

    status, slug, title = 408, "timed-out", "The connection was silent for too long"
    close_code = 4408


class TooFast(ServiceError):
    """More messages than any camera sends."""

    status, slug, title = 429, "too-fast", "Too many messages"
    close_code = 4429


def service_errors() -> Iterator[type[ServiceError]]:
    """Every kind of error that has an answer on the wire."""
    waiting = [ServiceError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting += kind.__subclasses__()


def error_of(slug: str, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> ServiceError:
    """The error that a problem on the wire tells of; a plain ServiceError where the slug is not known."""
    kind = next((kind for kind in service_errors() if kind.slug == slug), ServiceError)
    return kind(detail, image=image, retry_after_s=retry_after_s)
