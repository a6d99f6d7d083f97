"""Open cameras: the options that FFmpeg gets for each kind, and what its errors mean."""

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from av.container import InputContainer

# The longest wait for a frame of a camera.
SILENCE_S: Final = 10.0
# For the first answer. The kernel asks a host that is away after 0, 1, 3 and 7 s. So a host that returns is found in time to have
# frames within five seconds. Playlists take longer: FFmpeg loads them and their first parts on the way.
_RTSP_ANSWER_S: Final = 5.0
_HTTP_ANSWER_S: Final = 10.0

# TCP before UDP, for it loses nothing. FFmpeg would watch twenty frames for their rate, which nobody needs here.
_ADDRESS_OPTIONS: Final = {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video", "fflags": "nobuffer", "fpsprobesize": "0"}

_STATUSES: Final = {
    400: "the camera does not understand the address (400)",
    401: "the camera rejects the user or the password (401)",
    403: "the camera does not let this user watch (403)",
    404: "the camera has no such path (404)",
}
_ADDRESS_REASONS: Final = {
    errno.ECONNREFUSED: "nothing listens at this address (connection refused)",
    errno.EIO: "it cannot be reached: is the name of the host right?",
    errno.EPROTONOSUPPORT: "the camera sends neither over TCP nor over UDP",
}
_DEVICE_REASONS: Final = {
    errno.ENOENT: "there is no such device; is it plugged in?",
    errno.ENODEV: "the device was unplugged",
    errno.ENXIO: "there is no such device; is it plugged in?",
    errno.EACCES: "the service may not read the device: add its user to the group video",
    errno.EPERM: "the service may not read the device: add its user to the group video",
    errno.EBUSY: "another program uses the device",
    errno.ENOTTY: "it is no video device",
    errno.EINVAL: "it is no video device that captures images",
    errno.EISDIR: "it is no video device but a folder",
}


class SourceError(Exception):
    """A camera cannot be opened, or was lost.

    Args:
        detail: why; without user and password.
        rejected: the camera rejects the user or the password. Many cameras lock an account after a few attempts.
    """

    def __init__(self, detail: str, *, rejected: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.rejected = rejected


def is_device(source: str) -> bool:
    """Return whether a source is a device of Video4Linux, such as `/dev/video0`, whether it is there or not."""
    return source.startswith("/dev/")


def is_recording(source: str, container: "InputContainer") -> bool:
    """Return whether an address leads to something that has an end: a file, or a playlist that is complete.

    An RTSP server may state a duration for what it plays in a loop, so its statement does not count.
    """
    return urlsplit(source).scheme in ("http", "https") and container.duration is not None


def open_camera(av: Any, source: str) -> "InputContainer":
    """Open a camera.

    Args:
        av: PyAV.
        source: an address, or a device.

    Raises:
        SourceError: it does not answer, or rejects the caller.
        MemoryError: there is not enough.
    """
    device = is_device(source)
    answer_s = _RTSP_ANSWER_S if source.startswith("rtsp") else _HTTP_ANSWER_S
    began = time.monotonic()
    try:
        if device:
            # By its kind of format alone: a file of this name must not be read as one.
            container: InputContainer = av.open(source, format="v4l2", timeout=(answer_s, SILENCE_S), metadata_errors="replace")
        else:
            container = av.open(source, options=dict(_ADDRESS_OPTIONS), timeout=(answer_s, SILENCE_S), metadata_errors="replace")
    except (OSError, av.FFmpegError) as error:
        if time.monotonic() - began >= answer_s:  # FFmpeg reports it as damaged data
            raise SourceError(f"the camera does not answer within {answer_s:g} s") from None
        raise SourceError(f"it cannot be opened: {_reason(av, error, device=device)}", rejected=_is_rejected(av, error)) from None
    return container


def lost(av: Any, error: Any, source: str, silent_s: float) -> SourceError:
    """Return what is wrong with a camera that was open.

    Args:
        av: PyAV.
        error: of it.
        source: as of `open_camera`.
        silent_s: since the last frame.
    """
    if silent_s >= SILENCE_S - 1:
        return silence()
    return SourceError(f"it was lost: {_reason(av, error, device=is_device(source))}", rejected=_is_rejected(av, error))


def silence() -> SourceError:
    """Return what is wrong with a camera that sends no frames."""
    return SourceError(f"the camera has sent no frame for {SILENCE_S:g} s")


def _is_rejected(av: Any, error: Any) -> bool:
    return isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError)


def _reason(av: Any, error: Any, *, device: bool) -> str:
    """Return the reason of an error of FFmpeg. Its own text may have the address, with the password, unless it is `strerror`."""
    if device:
        return _DEVICE_REASONS.get(error.errno) or str(error.strerror or "it cannot be read")
    kinds = {
        av.error.HTTPBadRequestError: 400,
        av.error.HTTPUnauthorizedError: 401,
        av.error.HTTPForbiddenError: 403,
        av.error.HTTPNotFoundError: 404,
    }
    if type(error) in kinds:
        return _STATUSES[kinds[type(error)]]
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return "what it sends is no video"
    return _ADDRESS_REASONS.get(error.errno) or str(error.strerror or "it cannot be read").lower()


def is_path(source: str) -> bool:
    """Return whether a source is a video file, which plays at its own rate and ends: an absolute path, or any file that is there."""
    return not is_device(source) and (source.startswith("/") or Path(source).is_file())
