"""Images for the tests, made here or shipped beside them."""

from pathlib import Path

import cv2
import numpy as np

from posewire.types import UInt8Array

ASTRONAUT = Path(__file__).parent / "data" / "astronaut.jpg"

# Images with annotations lie beside the checkout on some machines; tests that need them skip elsewhere.
COCO_MINI_VAL = Path(__file__).parents[1].parent / "shared" / "data" / "coco-mini-val"


def astronaut() -> UInt8Array:
    """(512, 512, 3) uint8, RGB: one person, from the hips up."""
    return np.asarray(cv2.imread(str(ASTRONAUT), cv2.IMREAD_COLOR_RGB), np.uint8)


def landscape(width: int = 640, height: int = 480) -> UInt8Array:
    """(height, width, 3) uint8, RGB: sky, hills and a meadow; nobody is there."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    horizon = height * (0.55 + 0.08 * np.sin(x / width * 5) + 0.03 * np.sin(x / width * 17))
    sky = np.stack([120 + 80 * y / height, 160 + 60 * y / height, 235 - 20 * y / height], -1)
    meadow = np.stack([60 + 40 * y / height, 110 + 50 * y / height, 50 + 10 * y / height], -1)
    grain = np.random.default_rng(1).normal(0, 4, (height, width, 1))
    return np.clip(np.where((y < horizon)[..., None], sky, meadow) + grain, 0, 255).astype(np.uint8)


def encode(pixels: UInt8Array, suffix: str = ".jpg") -> bytes:
    """RGB pixels as the bytes of an image file."""
    return cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def variations(count: int) -> list[bytes]:
    """The astronaut cut, scaled and mirrored: `count` different JPEG images, most with a person."""
    rng = np.random.default_rng(7)
    images = []
    for i in range(count):
        x, y = rng.integers(0, 120, 2)
        cut = astronaut()[y : y + 380, x : x + 380]
        size = int(rng.integers(160, 640))
        turned = cut[:, ::-1] if i % 2 else cut
        images.append(encode(np.ascontiguousarray(cv2.resize(turned, (size, size)))))
    return images
