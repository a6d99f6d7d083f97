"""Small images of every format that the service takes, and damaged ones: `mutated(n)` is always the same for the same n."""

from functools import cache
from random import Random

import cv2
import numpy as np

from loadtests import sample_images
from loadtests.hostile.mutations import damaged, jpeg_blocks, png_blocks, riff_blocks, with_checksums

_SEED = 23
_BLOCKS = {"jpeg": jpeg_blocks, "png": png_blocks, "webp": riff_blocks}
_SIZE = (96, 80)  # width, height, pixels


@cache
def sources() -> dict[str, bytes]:
    """Whole images by format and kind, such as `jpeg-progressive`; all are taken by the service."""
    pixels = cv2.resize(np.asarray(cv2.imdecode(np.frombuffer(sample_images.single(), np.uint8), cv2.IMREAD_COLOR)), _SIZE)
    grey, deep = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), pixels.astype(np.uint16) * 257
    made = {
        "jpeg": (".jpg", pixels, []),
        "jpeg-progressive": (".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        "jpeg-restarts": (".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
        "jpeg-grey": (".jpg", grey, []),
        "png": (".png", pixels, []),
        "png-16-bit": (".png", deep, []),
        "png-alpha": (".png", cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), []),
        "png-two-colours": (".png", (grey > 127).astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1]),
        "webp": (".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 80]),
        "webp-lossless": (".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101]),
        "bmp": (".bmp", pixels, []),
        "bmp-grey": (".bmp", grey, []),
    }
    return {name: cv2.imencode(suffix, image, options)[1].tobytes() for name, (suffix, image, options) in made.items()}


def mutated(number: int) -> tuple[str, bytes]:
    """The image of a number, damaged in one to three ways; and the media type of what it was."""
    random = Random(_SEED * 1_000_003 + number)  # noqa: S311 - the same numbers again and again are what is wanted
    names = list(sources())
    name = names[number % len(names)]
    kind = name.partition("-")[0]
    whole = list(sources().values())
    data = damaged(random, sources()[name], _BLOCKS.get(kind), whole)
    if kind == "png" and random.random() < 0.5 and (mended := with_checksums(data)) not in whole:
        data = mended
    return f"image/{kind}", data
