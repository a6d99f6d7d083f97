"""Images of ROS as the bytes that a Posewire service takes. Nothing here needs ROS."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

_QUALITY: Final = 90

# Channels of an encoding, and how OpenCV makes BGR or grey of them.
_ENCODINGS: Final[dict[str, tuple[int, int | None]]] = {
    "bgr8": (3, None),
    "8UC3": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, None),
    "8UC1": (1, None),
}


class UnusableImage(ValueError):
    """An image that a service cannot take."""


def to_jpeg(encoding: str, width: int, height: int, step: int, data: bytes | memoryview) -> bytes:
    """Return a `sensor_msgs/Image` as JPEG.

    Args:
        encoding: as in the message.
        width: pixels.
        height: pixels.
        step: bytes of a row, padding included.
        data: `height` rows.

    Raises:
        UnusableImage: the encoding is not one of eight bits a channel, or the sizes do not fit.
    """
    if encoding not in _ENCODINGS:
        raise UnusableImage(f"the encoding {encoding!r} is not one of {', '.join(_ENCODINGS)}; image_proc can convert it")
    channels, conversion = _ENCODINGS[encoding]
    if not (width > 0 and height > 0 and step >= width * channels and len(data) >= step * height):
        raise UnusableImage(f"{len(data)} bytes with a step of {step} are no {width}x{height} image of {encoding}")
    rows = np.frombuffer(data, np.uint8, step * height).reshape(height, step)[:, : width * channels]
    pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(rows).reshape(height, width, channels)
    if conversion is not None:
        pixels = np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()


def as_sent(data: bytes) -> bytes:
    """Return the data of a `sensor_msgs/CompressedImage` if a service takes them: JPEG, PNG or WebP.

    Raises:
        UnusableImage: they are in another format, such as that of `compressedDepth`.
    """
    if not (data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")):
        raise UnusableImage("a compressed image is no JPEG, PNG or WebP")
    return data
