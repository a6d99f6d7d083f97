"""The rate of a batch from the times of its shards, and the images of the load test."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from loadtests.batches import Memory, steady_rate, write_images


def test_the_rate_is_from_the_first_shards_to_the_last() -> None:
    assert steady_rate([(10.0, 50), (11.0, 20), (12.0, 30)]) == pytest.approx(25.0)
    assert steady_rate([(10.0, 50), (10.1, 50), (10.4, 50), (12.4, 60)]) == pytest.approx(30.0)  # the first ones came together
    with pytest.raises(ValueError, match="too few"):
        steady_rate([(10.0, 50), (10.2, 50)])


def test_growth_compares_the_end_with_the_beginning() -> None:
    assert Memory([], [100.0] * 10).growth == 1.0
    assert Memory([], [100.0, 100.0, *[150.0] * 6, 200.0, 200.0]).growth == 2.0


def test_images_differ_and_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_images(tmp_path / name, 6)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        contents = [file.read() for info in archive if (file := archive.extractfile(info))]
        assert archive.getnames()[0] == "000/000000.jpg"
    assert len(set(contents)) == 6
    for content in contents:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.shape[0] == pixels.shape[1] >= 320
