"""Everything that Posewire refuses or fails at, as one tree.

A class says how its errors look from outside: HTTP status, problem type and title. The message of an instance is
written for the caller: what is wrong and what to do. Whatever is not a `ServiceError` never reaches a client in words.
"""

from typing import ClassVar


class PosewireError(Exception):
    """Base of every error that Posewire raises on purpose; its message is one line that says what to do."""


class ConfigError(PosewireError):
    """A setting is unknown or has a bad value."""


class ModelError(PosewireError):
    """A model file is missing, damaged or not what the manifest says."""


class DeviceError(PosewireError):
    """The device that was asked for cannot be used here."""


class ServiceError(PosewireError):
    """An error with an answer of its own on the wire (RFC 9457)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.image = image  # index of the picture in the request that is at fault
        self.retry_after_s = retry_after_s  # whole seconds


class BadPicture(ServiceError):
    """The bytes are not a still picture that can be decoded."""

    status, slug, title = 400, "bad-picture", "The picture cannot be decoded"


class BadBody(ServiceError):
    """The request's body is not what its media type says."""

    status, slug, title = 400, "bad-body", "The body cannot be parsed"


class TooLarge(ServiceError):
    """Too many bytes, pixels or pictures."""

    status, slug, title = 413, "too-large", "The request is too large"


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


class Overloaded(ServiceError):
    """The service is full; the caller may try again."""

    status, slug, title = 503, "overloaded", "The service is at its limit"


class Draining(ServiceError):
    """The service is about to stop."""

    status, slug, title = 503, "draining", "The service is stopping"


class NotReady(ServiceError):
    """The models are not loaded yet."""

    status, slug, title = 503, "not-ready", "The service is not ready"


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
