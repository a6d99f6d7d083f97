"""Training the detector, on people made of sticks."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_store.training.augment_scene import Shown, mosaic, place
from model_store.training.data import cutting
from model_store.training.data.scenes import PAD
from model_store.training.data.sets import load_sets
from model_store.training.recipe import DetectorAugmentation
from posewire.errors import ModelError, PosewireError
from tests.training.data.stick import stick_sets
from tests.training.test_pose import curves

torch: Any = pytest.importorskip("torch", reason="torch is not installed: no detector is trained")
detector: Any = importlib.import_module("model_store.training.detector")
rtmdet: Any = importlib.import_module("model_store.training.rtmdet")
trainers: Any = importlib.import_module("model_store.training.trainer")
checkpoints: Any = importlib.import_module("model_store.training.checkpoints")
scenes: Any = importlib.import_module("model_store.training.data.scenes")
recipes: Any = importlib.import_module("model_store.training.recipe")
toml: Any = importlib.import_module("model_store.training.toml")

RECIPE = """
batch = 4
log_every = 16

[optimiser]
rate = 2e-3
schedule = "constant"
warmup = 3

[[stages]]
size = 96
samples = 48
mosaic = 0.5

[[stages]]
size = 64
samples = 16
mosaic = 0.0
"""


@pytest.fixture(scope="module")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "recipe.toml").write_text(RECIPE)
    sets = load_sets(stick_sets(folder, train=24, held_out=8))
    cutting.cut_scenes(sets, folder, folder / "data", side=128, workers=2, report=lambda total, what: lambda: None)
    return folder


def dot(width: int = 100, height: int = 60) -> Shown:
    """A white box on black."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[20:40, 30:70] = 255
    return Shown(pixels, np.array([[30, 20, 70, 40]], np.float32))


def light(shown: Shown) -> list[int]:
    """Corners of what is white."""
    x, y, w, h = cv2.boundingRect((shown.pixels.min(-1) > 127).astype(np.uint8))
    return [x, y, x + w, y + h]


@pytest.mark.parametrize("stretched", [False, True])
def test_boxes_go_where_their_pixels_go(stretched: bool) -> None:
    seen = 0
    for seed in range(40):
        placed = place(dot(), 160, DetectorAugmentation(), np.random.default_rng(seed), stretched=stretched)
        assert placed.pixels.shape == (160, 160, 3)
        for box in placed.boxes_xyxy:
            np.testing.assert_allclose(light(placed), box, atol=1.6)
            seen += 1
    assert seen > 30


def test_what_is_no_image_is_grey_and_who_is_gone_is_not_asked_for() -> None:
    small = DetectorAugmentation(smallest=0.4, largest=0.4)
    placed = place(dot(), 160, small, np.random.default_rng(1), stretched=False)
    assert (placed.pixels == PAD).all(-1).mean() > 0.5
    large = DetectorAugmentation(smallest=8, largest=8)
    people = [place(dot(), 160, large, np.random.default_rng(seed), stretched=False).boxes_xyxy for seed in range(20)]
    assert any(len(boxes) == 0 for boxes in people)
    assert all(((boxes >= 0) & (boxes <= 160)).all() for boxes in people)


def test_a_mosaic_keeps_everybody_in_its_corner() -> None:
    squares = [place(dot(), 80, DetectorAugmentation(smallest=1, largest=1), np.random.default_rng(n), stretched=False) for n in range(4)]
    made = mosaic(squares)
    assert made.pixels.shape == (160, 160, 3)
    for n, square in enumerate(squares):
        x, y = 80 * (n % 2), 80 * (n // 2)
        np.testing.assert_array_equal(made.pixels[y : y + 80, x : x + 80], square.pixels)
        np.testing.assert_allclose(made.boxes_xyxy[n], square.boxes_xyxy[0] + [x, y, x, y], rtol=1e-6)


def make(sticks: Path) -> Any:
    data = (scenes.open_scenes(sticks / "data" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    return detector.DetectorTraining(toml.load(sticks / "recipe.toml", recipes.DetectorRecipe), *data)


def test_it_trains_stops_and_goes_on(sticks: Path, tmp_path: Path) -> None:
    started = rtmdet.build("rtmdet-nano-lean")
    torch.save({"ema": started.state_dict()}, tmp_path / "start.pt")
    work = tmp_path / "work"
    options = ["--recipe", sticks / "recipe.toml", "--work", work, "--data", sticks / "data", "--nice", "0", "--minutes", "0"]
    command = [sys.executable, "-m", "model_store.training.detector", *map(str, [*options, "--start", tmp_path / "start.pt"])]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("4 of 64 samples: ")
    made = make(sticks)
    assert trainers.Trainer(made, made.recipe, work).run()
    rows = curves(work)
    assert [(row["seen"], row["height"]) for row in rows] == [(16, 96), (32, 96), (48, 96), (64, 64)]
    assert rows[2]["loss"] < rows[0]["loss"]
    assert all(0 <= row["ap"] <= row["ap50"] <= 1 for row in rows)
    network = rtmdet.build("rtmdet-nano-lean")
    network.load_state_dict(checkpoints.load(checkpoints.newest(work / "checkpoints"))["ema"])


def test_a_batch_is_blue_first_and_normalised(sticks: Path) -> None:
    made = make(sticks)
    batch = made.source.batch(0, 8, np.random.default_rng(1))
    assert batch.images.shape == (8, 3, 96, 96)
    assert len(batch.people) == 8
    assert all(people.shape[1] == 4 for people in batch.people)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    assert detector.stacked([red])[0, :, 0, 0].tolist() == [0, 0, 255]
    seen = detector.normalised(detector.stacked([red]))[0, :, 0, 0]
    assert seen.tolist() == pytest.approx([-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395])
    with pytest.raises(PosewireError, match="24 held-out images"):
        detector.DetectorTraining(made.recipe, made.source.scenes, made.source.scenes)


def test_images_for_research_or_that_nobody_has_labelled_are_not_for_everyone(sticks: Path) -> None:
    recipe = toml.load(sticks / "recipe.toml", recipes.DetectorRecipe)
    images, held_out = (scenes.open_scenes(sticks / "data" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    with pytest.raises(PosewireError, match="all sources that are there the weight 0: stanford40"):
        detector.DetectorTraining(recipe, replace(images, sources=["stanford40"]), held_out, no_research=True)
    unlabelled = replace(images, unlabelled=["sticks"])
    with pytest.raises(PosewireError, match="sticks: nobody has said who is in these images"):
        detector.DetectorTraining(recipe, unlabelled, held_out)
    taught = recipe.model_copy(update={"distillation": recipes.DetectorDistillation()})
    assert detector.DetectorTraining(taught, unlabelled, held_out).source.chances.sum() == pytest.approx(1)


def test_an_unknown_detector_is_refused(sticks: Path) -> None:
    recipe = toml.load(sticks / "recipe.toml", recipes.DetectorRecipe).model_copy(update={"network": "rtmdet-tiny"})
    data = (scenes.open_scenes(sticks / "data" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    with pytest.raises(ModelError, match="known: rtmdet-nano, rtmdet-nano-lean"):
        detector.DetectorTraining(recipe, *data)


def test_answers_are_boxes_best_first_one_a_person() -> None:
    answers = np.array([[2, 0, 0, 10, 10], [3, 1, 0, 11, 10], [-9, 50, 50, 60, 60], [0, 30, 30, 40, 40]], np.float32)
    boxes, scores = detector.best(answers)
    assert boxes.tolist() == [[1, 0, 11, 10], [30, 30, 40, 40]]
    assert scores.tolist() == pytest.approx([0.953, 0.5], abs=1e-3)
