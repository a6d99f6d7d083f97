"""Which people a model is calibrated on."""

from pathlib import Path

import numpy as np
import pytest

from posewire.engine.engine import Engine
from posewire.errors import PosewireError
from posewire.tools.calibration import FEWEST, Limits, annotated, choose, detected
from posewire.types import FloatArray
from tests.sample_images import ASTRONAUT, encode, landscape, variations

LIMITS = Limits(10**7, 10**7)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i:02}.jpg" for i in range(8)]
    for path, content in zip(paths, variations(8), strict=True):
        path.write_bytes(content)
    return paths


def boxes_of(paths: list[Path], each: int) -> dict[Path, FloatArray]:
    return {path: np.array([[i, 0, 20 + 10 * i, 100] for i in range(each)], np.float32).reshape(-1, 4) for path in paths}


def test_the_choice_is_the_same_every_time_and_no_crowd_fills_it(models: Engine, folder: list[Path]) -> None:
    told: list[None] = []
    known = annotated(boxes_of(folder, 9))
    first = choose(folder, known, models.pose, 18, LIMITS, lambda: told.append(None))
    again = choose(folder[::-1], known, models.pose, 18, LIMITS, lambda: None)
    assert (len(first.crops), first.images, len(told)) == (18, 5, 18)
    assert {crop.shape for crop in first.crops} == {(128, 96, 3)}
    np.testing.assert_array_equal(np.stack(first.crops), np.stack(again.crops))


def test_the_largest_people_of_an_image_are_taken(models: Engine, folder: list[Path]) -> None:
    chosen = choose(folder, annotated(boxes_of(folder, 2)), models.pose, 16, LIMITS, lambda: None)
    largest = choose(folder, annotated({p: b[::-1] for p, b in boxes_of(folder, 2).items()}), models.pose, 16, LIMITS, lambda: None)
    np.testing.assert_array_equal(np.stack(chosen.crops), np.stack(largest.crops))


def test_the_detector_finds_people_who_are_not_annotated(models: Engine, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:02}.jpg" for i in range(FEWEST + 1)]
    for path in paths[1:]:
        path.write_bytes(ASTRONAUT.read_bytes())
    paths[0].write_bytes(encode(landscape()))
    chosen = choose(paths, detected(models.detector, 0.5), models.pose, 100, LIMITS, lambda: None)
    assert (len(chosen.crops), chosen.images) == (FEWEST, FEWEST)


def test_too_few_people_are_refused(models: Engine, folder: list[Path]) -> None:
    with pytest.raises(PosewireError, match="no people on 8 images"):
        choose(folder, annotated(boxes_of(folder, 0)), models.pose, 20, LIMITS, lambda: None)
    with pytest.raises(PosewireError, match="only 8 people on 8 images; calibration needs 16"):
        choose(folder, annotated(boxes_of(folder, 1)), models.pose, 20, LIMITS, lambda: None)


def test_a_damaged_image_is_named(models: Engine, folder: list[Path]) -> None:
    folder[3].write_bytes(b"no image")
    with pytest.raises(PosewireError, match=folder[3].name):
        choose(folder, annotated(boxes_of(folder, 1)), models.pose, 20, LIMITS, lambda: None)
