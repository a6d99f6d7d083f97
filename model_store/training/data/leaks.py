"""Held-out images must not be trained on: by COCO's number, and by what the image shows.

The fingerprint is a perceptual hash (the signs of an image's slowest cosine waves, as `imagehash.phash`): a copy that was
scaled, stretched, re-encoded or brightened keeps it. It is ours, a few lines on OpenCV, because the libraries for it bring Pillow
and PyWavelets into the loop that reads every image, and do not give the mirrored image's hash for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import cv2
import numpy as np

from posewire.errors import PosewireError
from posewire.types import UInt8Array

# Waves a side that are kept, of how many pixels a side.
_WAVES = 16
_PIXELS = 64
HASH_BYTES = _WAVES * _WAVES // 8
# Of 256 bits. Measured on 79 images of COCO val2017: copies at a quarter to twice the size, stretched, at JPEG quality 30, brighter by
# a third, with 3 % cut off, or mirrored differ in 42 at most; the nearest of 5,123 training images of COCO and Human Dataset v2 in 86.
DEFAULT_DISTANCE = 60


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Images as the check sees them."""

    ids: Sequence[str]  # as `image_id` gives them
    hashes: UInt8Array  # (n, 32) uint8; (0, 32): nobody has looked at the images

    @classmethod
    def of_numbers(cls, ids: Sequence[str]) -> Self:
        """For images that nobody has looked at: only their numbers are compared."""
        return cls(ids, np.zeros((0, HASH_BYTES), np.uint8))


def perceptual_hash(pixels: UInt8Array) -> UInt8Array:
    """(32,) uint8 of an image (H, W, 3) uint8 RGB: nearly the same bits for nearly the same image at any size."""
    grey = cv2.cvtColor(cv2.resize(pixels, (_PIXELS, _PIXELS), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    waves = cv2.dct(grey.astype(np.float32))[:_WAVES, :_WAVES]
    return np.packbits(waves > np.median(waves))


@cache
def _mirroring() -> UInt8Array:
    """(32,) uint8: the bits that a mirrored image has the other way round, its odd waves from left to right."""
    odd = np.zeros((_WAVES, _WAVES), bool)
    odd[:, 1::2] = True
    return np.packbits(odd)


def find_leaks(training: Fingerprints, held_out: Fingerprints, distance: int = DEFAULT_DISTANCE) -> list[str]:
    """Training images that are held out, one line each with the reason; empty: none.

    Args:
        training: what is to be trained on; an image may be there many times.
        held_out: what must not.
        distance: differing bits, of 256, up to which two images count as one. Mirrored copies are found too.
    """
    known = {id_ for id_ in held_out.ids if id_.startswith("coco/")}
    found = {id_: f"{id_}: held out by its COCO number" for id_ in training.ids if id_ in known}
    if len(held_out.hashes):
        for id_, bits in dict(zip(training.ids, training.hashes, strict=True)).items():
            different = np.bitwise_count(held_out.hashes ^ bits).sum(1, dtype=np.int64)
            mirrored = np.bitwise_count(held_out.hashes ^ bits ^ _mirroring()).sum(1, dtype=np.int64)
            nearest = np.minimum(different, mirrored)
            if nearest.min() <= distance:
                twin = held_out.ids[int(nearest.argmin())]
                found.setdefault(id_, f"{id_}: looks like held-out {twin} ({nearest.min()} of {8 * HASH_BYTES} bits differ)")
    return list(found.values())


def refuse_leaks(training: Fingerprints, held_out: Fingerprints, distance: int = DEFAULT_DISTANCE) -> None:
    """End the run if a held-out image would be trained on.

    Raises:
        PosewireError: lists every culprit.
    """
    leaks = find_leaks(training, held_out, distance)
    if leaks:
        listed = "\n  ".join(leaks)
        raise PosewireError(f"{len(leaks)} held-out images are in the training data; take them out:\n  {listed}")
