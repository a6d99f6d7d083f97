from collections.abc import Callable

import cv2
import numpy as np
import pytest

from model_store.training.data.leaks import Fingerprints, find_leaks, perceptual_hash, refuse_leaks
from posewire.errors import PosewireError
from posewire.types import UInt8Array
from tests import sample_images
from tests.training.data.stick import stick


def fingerprints(**named: UInt8Array) -> Fingerprints:
    return Fingerprints([name.replace("_", "/") for name in named], np.stack([perceptual_hash(p) for p in named.values()]))


def encoded(pixels: UInt8Array, width: int, height: int, quality: int) -> UInt8Array:
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


COPIES: dict[str, Callable[[UInt8Array], UInt8Array]] = {
    "the same": lambda p: p,
    "smaller, poor quality": lambda p: encoded(p, p.shape[1] // 3, p.shape[0] // 3, 30),
    "stretched": lambda p: encoded(p, 416, 416, 75),
    "larger": lambda p: encoded(p, p.shape[1] * 2, p.shape[0] * 2, 60),
    "brighter": lambda p: np.clip(p * 1.2 + 10.0, 0, 255).astype(np.uint8),
    "mirrored": lambda p: encoded(np.ascontiguousarray(p[:, ::-1]), 200, 240, 80),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("original", [sample_images.astronaut(), stick(1).pixels], ids=["astronaut", "stick"])
def test_a_copy_of_a_held_out_image_ends_the_run(original: UInt8Array, copy: str) -> None:
    training = fingerprints(a_x=sample_images.landscape(), a_copy=COPIES[copy](original), a_z=stick(2).pixels)
    with pytest.raises(PosewireError, match="1 held-out images") as caught:
        refuse_leaks(training, fingerprints(val_original=original, val_other=stick(3).pixels))
    assert "a/copy: looks like held-out val/original" in str(caught.value)
    assert "a/x" not in str(caught.value)


def test_a_held_out_number_of_coco_ends_the_run_whatever_it_shows() -> None:
    training = fingerprints(coco_000000000139=stick(1).pixels, coco_000000000140=stick(2).pixels)
    held_out = fingerprints(coco_000000000139=stick(3).pixels, val_a=stick(4).pixels)
    assert find_leaks(training, held_out) == ["coco/000000000139: held out by its COCO number"]


def test_strangers_pass() -> None:
    training = fingerprints(**{f"a_{n}": stick(n).pixels for n in range(50)}, a_astronaut=sample_images.astronaut())
    held_out = fingerprints(**{f"b_{n}": stick(n).pixels for n in range(100, 150)}, b_landscape=sample_images.landscape())
    refuse_leaks(training, held_out)
    refuse_leaks(training, Fingerprints([], np.zeros((0, 32), np.uint8)))


def test_an_image_with_many_people_is_named_once() -> None:
    image = perceptual_hash(stick(1).pixels)
    training = Fingerprints(["a/1", "a/1", "a/1"], np.stack([image] * 3))
    assert len(find_leaks(training, fingerprints(b_1=stick(1).pixels))) == 1
