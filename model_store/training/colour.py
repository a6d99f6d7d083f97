"""Changes of colour, for both trainings."""

import cv2
import numpy as np

from posewire.types import UInt8Array


def recolour(pixels: UInt8Array, *, gain: float, levels: float, tint: float, grey: float, rng: np.random.Generator) -> UInt8Array:
    """Other contrast, brightness and tint, or no colour at all.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        gain: sigma of the factor about 1.
        levels: sigma of what is added to all channels, of 255.
        tint: sigma of what is added to each channel, of 255.
        grey: share of images that lose their colours.
        rng: chance.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if rng.random() < grey:
        pixels = np.asarray(cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    added = rng.normal() * levels + rng.normal(size=3) * tint
    table = np.arange(256)[:, None] * (1 + rng.normal() * gain) + added
    return np.asarray(cv2.LUT(pixels, np.clip(table, 0, 255).astype(np.uint8)[None]), np.uint8)
