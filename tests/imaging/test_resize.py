"""Scaling down is OpenCV's area interpolation, whoever does it."""

import cv2
import numpy as np
import pytest

from posewire.imaging import resize as module
from posewire.imaging.resize import area_resize
from posewire.native.library import FILE, load_kernels
from posewire.types import UInt8Array
from tests.cpu_kernels.test_parity import levels
from tests.sample_images import astronaut

built = pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")

SIZES = [
    ((512, 512), (320, 320)), ((512, 512), (256, 256)), ((512, 512), (128, 64)), ((427, 512), (267, 320)), ((511, 509), (510, 508)),
    ((512, 512), (512, 512)), ((512, 512), (1, 1)), ((512, 1), (320, 1)), ((1, 512), (1, 320)), ((3, 500), (2, 7)), ((97, 15), (13, 15)),
]  # fmt: skip


def area(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@built
@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize(("large", "small"), SIZES)
def test_the_kernels_give_the_mean_of_the_area(
    large: tuple[int, int], small: tuple[int, int], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_kernels", lambda: load_kernels(level=level))
    pixels = astronaut()[: large[0], : large[1]]
    canvas = np.full((small[0] + 2, small[1] + 3, 3), 77, np.uint8)
    area_resize(pixels, *small, canvas[: small[0], : small[1]])
    expected = area(np.ascontiguousarray(pixels), *small)
    difference = np.abs(canvas[: small[0], : small[1]].astype(int) - expected)
    assert difference.max() <= 1, "rounding"
    assert (difference > 0).mean() < 0.1
    canvas[: small[0], : small[1]] = 77
    assert (canvas == 77).all(), "nothing beside it is touched"


def test_an_image_in_another_order_of_memory_is_the_same_image() -> None:
    pixels = astronaut()
    turned = np.asfortranarray(pixels)
    outs = [np.empty((100, 120, 3), np.uint8) for _ in range(3)]
    area_resize(pixels, 100, 120, outs[0])
    area_resize(turned, 100, 120, outs[1])
    area_resize(pixels[:, ::-1][:, ::-1], 100, 120, outs[2])
    assert np.array_equal(outs[0], outs[1])
    assert np.array_equal(outs[0], outs[2])


def test_without_the_kernels_opencv_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kernels", lambda: None)
    out = np.empty((100, 120, 3), np.uint8)
    area_resize(astronaut(), 100, 120, out)
    assert np.array_equal(out, area(astronaut(), 100, 120))
