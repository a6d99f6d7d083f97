"""All errors of Posewire, as one tree.

A class defines how its errors are answered: HTTP status, WebSocket close code, problem type and title. The message of an instance
tells the caller the problem and the remedy. The text of an error that is not a `ServiceError` is never sent to a client.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, TypeAlias

# The limits that reject a request as overloaded, as metrics and logs name them. docs/runbook.md says what to do about each.
Limit: TypeAlias = Literal[
    "images",  # all places for images are taken; the body is not read
    "request-images",  # the images of this request do not fit beside the others
    "bytes",  # of all request bodies
    "client-bytes",  # of the request bodies of one client
    "connections",
    "queue",  # images that wait for a model
    "grpc-calls",
    "streams",
    "webrtc-sessions",
    "videos",
    "uploads",  # of videos
    "cameras",
    "processes",  # of the machine: none can be started
]


class PosewireError(Exception):
    """Base of every error that Posewire raises on purpose; its message is one line that names the remedy."""


class ConfigError(PosewireError):
    """A setting is unknown or has a bad value."""


class ModelError(PosewireError):
    """A model file is missing or damaged, or it does not match the manifest."""


class DeviceError(PosewireError):
    """The requested device cannot be used on this machine."""


class ConnectionLost(PosewireError):
    """The service cannot be reached, or the connection was lost."""


class UnexpectedAnswer(PosewireError):
    """The answer is not one of Posewire."""


class ServiceError(PosewireError):
    """An error that is sent to the client as a problem (RFC 9457)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    close_code: ClassVar[int] = 1011  # WebSocket close code (RFC 6455; codes from 4000 are Posewire's)
    headers: ClassVar[Mapping[str, str]] = {}  # of the answer

    def __init__(self, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.image = image  # index in the request of the image that caused the error
        self.retry_after_s = retry_after_s  # whole seconds
        self.limit: Limit | None = None  # the limit that was reached; only `Overloaded` has one


class BadPicture(ServiceError):
    """The bytes are not a still image that can be decoded."""

    status, slug, title = 400, "bad-picture", "The image cannot be decoded"
    close_code = 4415


class BadBody(ServiceError):
    """The request's body does not match its media type."""

    status, slug, title = 400, "bad-body", "The body cannot be parsed"


class BadRequest(ServiceError):
    """The bytes are not an HTTP request that the service understands."""

    status, slug, title = 400, "bad-request", "The request cannot be parsed"


class TargetTooLong(ServiceError):
    """Path and query have too many bytes."""

    status, slug, title = 414, "target-too-long", "The path and query are too long"


class HeadersTooLarge(ServiceError):
    """The headers have too many bytes."""

    status, slug, title = 431, "headers-too-large", "The headers are too large"


class BadHost(ServiceError):
    """The request has no `Host` header, several, or one that is no host."""

    status, slug, title = 400, "bad-host", "The Host header is not valid"


class Unauthorized(ServiceError):
    """The API key is missing or unknown."""

    status, slug, title = 401, "unauthorized", "An API key is needed"
    close_code = 4401
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class ForeignOrigin(ServiceError):
    """A page of a site that is not allowed sends a request or opens a stream."""

    status, slug, title = 403, "foreign-origin", "The page's origin is not allowed"
    close_code = 4403


class TooLarge(ServiceError):
    """The request has too many bytes, pixels or images."""

    status, slug, title = 413, "too-large", "The request is too large"
    close_code = 1009


class UnsupportedMediaType(ServiceError):
    """The media type is neither a supported image type, nor multipart, nor JSON."""

    status, slug, title = 415, "unsupported-media-type", "The media type is not supported"


class UnsupportedEncoding(ServiceError):
    """The body has a content coding that is not undone here (RFC 9110, 8.4)."""

    status, slug, title = 415, "unsupported-encoding", "The content coding is not supported"
    headers: ClassVar[Mapping[str, str]] = {"Accept-Encoding": "gzip, deflate"}  # RFC 7694


class Misdirected(ServiceError):
    """The request is for a host that `POSEWIRE_ALLOWED_HOSTS` does not name."""

    status, slug, title = 421, "misdirected", "This host is not served here"


class BadVideo(ServiceError):
    """The video cannot be decoded, or is damaged in the middle."""

    status, slug, title = 400, "bad-video", "The video cannot be decoded"


class DecoderFailed(ServiceError):
    """The process that decodes a video has died or is stuck."""

    status, slug, title = 500, "decoder-failed", "The video decoder has failed"


class NotInstalled(ServiceError):
    """The request needs an extra that is not installed."""

    status, slug, title = 501, "not-installed", "This is not installed here"


class NoSpace(ServiceError):
    """The disk has no space for an upload."""

    status, slug, title = 507, "no-space", "There is no room for the upload"


class BadParameter(ServiceError):
    """A query parameter, header or JSON field has a bad value."""

    status, slug, title = 422, "bad-parameter", "A parameter is not valid"
    close_code = 4422


class UnknownModel(ServiceError):
    """The Open Inference Protocol names a model or a version that is not served."""

    status, slug, title = 404, "unknown-model", "The model is not served here"


class ForbiddenPlace(ServiceError):
    """The operator does not allow this source or this sink of a camera."""

    status, slug, title = 403, "forbidden-place", "The address is not allowed"


class NoSuchCamera(ServiceError):
    """No camera has this name."""

    status, slug, title = 404, "no-such-camera", "There is no such camera"


class CameraExists(ServiceError):
    """A camera has this name already."""

    status, slug, title = 409, "camera-exists", "A camera has this name"


class BadOffer(ServiceError):
    """The WebRTC offer is not a session description, or a candidate is none."""

    status, slug, title = 400, "bad-offer", "The offer cannot be parsed"


class NoSuchSession(ServiceError):
    """No WebRTC session has this address, or it has ended."""

    status, slug, title = 404, "no-such-session", "There is no such session"


class PreconditionFailed(ServiceError):
    """The `If-Match` header names another version of the resource."""

    status, slug, title = 412, "precondition-failed", "The resource has another version"


class PreconditionRequired(ServiceError):
    """The request needs an `If-Match` header."""

    status, slug, title = 428, "precondition-required", "The request needs If-Match"


class StateUnavailable(ServiceError):
    """The state folder cannot be used, or another process uses it."""

    status, slug, title = 503, "state-unavailable", "The state cannot be kept here"


class RateLimited(ServiceError):
    """One client exceeds its rate limit."""

    status, slug, title = 429, "rate-limited", "Too many images from this client"


class TooManyStreams(ServiceError):
    """One client has reached its limit of open streams."""

    status, slug, title = 429, "too-many-streams", "Too many streams of this client"
    close_code = 4430  # unlike after 4429 the client may connect again: when it has closed another stream


class Overloaded(ServiceError):
    """A limit of the service is reached; the caller may try again."""

    status, slug, title = 503, "overloaded", "The service is at its limit"
    close_code = 1013

    def __init__(self, detail: str, *, limit: Limit | None = None, image: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail, image=image, retry_after_s=retry_after_s)
        self.limit = limit  # None: another service sent the error


class OutOfMemory(ServiceError):
    """There is not enough memory for the image now; the caller may try again."""

    status, slug, title = 503, "out-of-memory", "The service is out of memory"
    close_code = 1013

    def __init__(
        self,
        detail: str = "there is not enough memory for the image; try again, or send a smaller one",
        *,
        image: int | None = None,
        retry_after_s: int | None = 1,
    ) -> None:
        super().__init__(detail, image=image, retry_after_s=retry_after_s)


class Draining(ServiceError):
    """The service is about to stop."""

    status, slug, title = 503, "draining", "The service is stopping"
    close_code = 1012

    def __init__(
        self,
        detail: str = "the service is stopping; try again at another instance",
        *,
        image: int | None = None,
        retry_after_s: int | None = 1,
    ) -> None:
        super().__init__(detail, image=image, retry_after_s=retry_after_s)


class NotReady(ServiceError):
    """The models are not loaded yet."""

    status, slug, title = 503, "not-ready", "The service is not ready"
    close_code = 1013

    def __init__(
        self, detail: str = "the models are not loaded yet; try again", *, image: int | None = None, retry_after_s: int | None = 1
    ) -> None:
        super().__init__(detail, image=image, retry_after_s=retry_after_s)


class Dead(ServiceError):
    """The queue of a model has died; only a restart helps."""

    status, slug, title = 503, "dead", "A model's queue has died"


class DeadlineExceeded(ServiceError):
    """The request's deadline passed before its answer was ready."""

    status, slug, title = 504, "deadline-exceeded", "The deadline has passed"


class InferenceFailed(ServiceError):
    """A model run failed; the next one may succeed."""

    status, slug, title = 500, "inference-failed", "The model run failed"


class NotAcceptable(ServiceError):
    """The caller's `Accept` header allows none of the media types of this answer."""

    status, slug, title = 406, "not-acceptable", "The answer cannot be given in the form asked for"


class ClientGone(ServiceError):
    """The client closed the connection. The answer is not sent, but it is counted."""

    status, slug, title = 499, "client-gone", "The client has gone"

    def __init__(self, detail: str = "the client has closed the connection") -> None:
        super().__init__(detail)


class BadMessage(ServiceError):
    """A WebSocket message is unknown, or not allowed at this point."""

    status, slug, title = 400, "bad-message", "The message is not understood"
    close_code = 4400


class TimedOut(ServiceError):
    """The client was silent for too long, or its request arrives too slowly."""

    status, slug, title = 408, "timed-out", "The connection was silent for too long"
    close_code = 4408
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}  # the rest of the body would be as slow


class TooFast(ServiceError):
    """A client sends far more messages than a camera has frames."""

    status, slug, title = 429, "too-fast", "Too many messages"
    close_code = 4429


def service_errors() -> Iterator[type[ServiceError]]:
    """Yield `ServiceError` and all its subclasses."""
    classes = [ServiceError]
    while classes:
        kind = classes.pop()
        yield kind
        classes += kind.__subclasses__()


def error_of(slug: str, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> ServiceError:
    """Return the error of a problem that a service sent; a plain ServiceError if the slug is unknown."""
    kind = next((kind for kind in service_errors() if kind.slug == slug), ServiceError)
    return kind(detail, image=image, retry_after_s=retry_after_s)
