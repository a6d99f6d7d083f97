import cv2
import numpy as np
import pytest

from posewire_ros.images import UnusableImage, as_sent, to_jpeg
from tests.sample_images import ASTRONAUT


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "rgba8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_colours_and_rows_are_right_in_every_encoding(encoding: str, padding: int) -> None:
    colours = {"b": 10, "g": 100, "r": 240, "a": 255}
    channels = encoding[:-1]
    rows = np.zeros((24, 32 * len(channels) + padding), np.uint8)
    rows[:, : 32 * len(channels)] = np.tile([colours[c] for c in channels], 32)
    pixels = cv2.imdecode(np.frombuffer(to_jpeg(encoding, 32, 24, rows.shape[1], rows.tobytes()), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (24, 32, 3)
    assert np.abs(pixels.astype(int) - [10, 100, 240]).max() <= 8


def test_grey_is_grey() -> None:
    pixels = cv2.imdecode(np.frombuffer(to_jpeg("mono8", 16, 8, 16, bytes([90]) * 128), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert np.abs(pixels.astype(int) - 90).max() <= 3


@pytest.mark.parametrize(
    ("encoding", "width", "height", "step", "size", "message"),
    [
        ("16UC1", 4, 4, 8, 32, "16UC1"),
        ("bayer_rggb8", 4, 4, 4, 16, "image_proc"),
        ("rgb8", 4, 4, 12, 47, "no 4x4 image"),
        ("rgb8", 4, 4, 11, 48, "no 4x4 image"),
        ("rgb8", 0, 4, 12, 48, "no 0x4 image"),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused(encoding: str, width: int, height: int, step: int, size: int, message: str) -> None:
    with pytest.raises(UnusableImage, match=message):
        to_jpeg(encoding, width, height, step, bytes(size))


def test_compressed_images_are_sent_as_they_are() -> None:
    assert as_sent(ASTRONAUT.read_bytes()) == ASTRONAUT.read_bytes()
    with pytest.raises(UnusableImage, match="no JPEG, PNG or WebP"):
        as_sent(b"\x00\x00\x00\x00depth")
