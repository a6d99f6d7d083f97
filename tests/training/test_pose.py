"""Training the pose network end to end, on people made of sticks."""

import csv
import importlib
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store.training import toml
from model_store.training.data import cutting
from model_store.training.data.sets import load_sets
from posewire.errors import PosewireError
from posewire.registry.weights.safetensors import write_safetensors
from tests.training.data.stick import stick_sets

torch: Any = pytest.importorskip("torch", reason="torch is not installed: no pose network is trained")
pose: Any = importlib.import_module("model_store.training.pose")
checkpoints: Any = importlib.import_module("model_store.training.checkpoints")
crops: Any = importlib.import_module("model_store.training.data.crops")
recipes: Any = importlib.import_module("model_store.training.recipe")

RECIPE = """
batch = 8
log_every = 16

[optimiser]
rate = 2e-3
schedule = "constant"
warmup = 3

[[stages]]
height = 64
width = 32
sigma = 1.0
samples = 64

[[stages]]
height = 64
width = 64
sigma = 1.0
samples = 32

[augmentation]
half_body = 0
rotation = 0
occlusion = 0
"""
SHIPPED = Path(pose.__file__).parents[1]


@pytest.fixture(scope="module")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of cut crops and of a recipe."""
    folder = tmp_path_factory.mktemp("sticks")
    (folder / "recipe.toml").write_text(RECIPE)
    sets = load_sets(stick_sets(folder, train=48, held_out=8))
    cutting.cut_people(sets, folder, folder / "data", side=96, workers=2, report=lambda total, what: lambda: None)
    return folder


def command(sticks: Path, work: Path, *more: object) -> list[str]:
    options = ["--recipe", sticks / "recipe.toml", "--work", work, "--data", sticks / "data", "--nice", 0, *more]
    return [sys.executable, "-m", "model_store.training.pose", *map(str, options)]


def curves(work: Path) -> list[dict[str, float]]:
    with (work / "curves.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_it_trains_is_killed_goes_on_and_learns(sticks: Path, tmp_path: Path) -> None:
    with subprocess.Popen(command(sticks, tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(random.randrange(1, 4)):
            assert process.stdout.readline().startswith("seen ")
        process.kill()
    before = curves(tmp_path)
    run = subprocess.run(command(sticks, tmp_path), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].startswith("done: ")
    rows = curves(tmp_path)
    assert rows[: len(before)] == before
    assert [row["seen"] for row in rows] == list(range(16, 97, 16))
    assert [(row["height"], row["width"]) for row in rows] == [(64, 32)] * 4 + [(64, 64)] * 2
    assert rows[3]["loss"] < 0.93 * rows[0]["loss"]
    assert all(0 <= row["ap"] <= row["ap50"] <= 1 for row in rows)
    content = checkpoints.load(checkpoints.newest(tmp_path / "checkpoints"))
    assert content["hw"] == (64, 64)
    network = pose.networks.build("litehrnet-18")
    network.load_state_dict(content["ema"])


def training(sticks: Path, change: str = "", stage: str = "") -> Any:
    recipe = sticks / "changed.toml"
    recipe.write_text(change + (stage or RECIPE))
    data = (crops.open_crops(sticks / "data" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    return pose.PoseTraining(toml.load(recipe, recipes.PoseRecipe), *data)


def test_a_batch_is_images_with_their_heatmaps(sticks: Path) -> None:
    made = training(sticks)
    batch = made.source.batch(0, 8, np.random.default_rng(1))
    assert batch.images.shape == (8, 3, 64, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.heatmaps.shape == (8, 17, 16, 8)
    again, other = (made.source.batch(0, 8, np.random.default_rng(seed)) for seed in (1, 2))
    assert torch.equal(batch.images, again.images)
    assert torch.equal(batch.heatmaps, again.heatmaps)
    assert not torch.equal(batch.images, other.images)
    # Every keypoint that counts has a peak that is told in its heatmap.
    peaks = batch.heatmaps.flatten(2).amax(-1)
    assert (peaks[batch.weights > 0] > 0.7).all()


def test_a_stage_may_have_an_augmentation_of_its_own(sticks: Path) -> None:
    grey = "[stages.augmentation]\ngrey = 1\ntint_levels = 0\n"
    second = "[[stages]]\nheight = 64\nwidth = 64"
    made = training(sticks, stage=RECIPE.replace(second, grey + second))
    own, usual = (made.source.batch(stage, 8, np.random.default_rng(1)).images for stage in (0, 1))
    spread = [batch.amax(1).int() - batch.amin(1).int() for batch in (own, usual)]
    assert spread[0].max() == 0
    assert spread[1].max() > 10


def test_joints_count_as_the_recipe_says(sticks: Path) -> None:
    weights = [0.0] + [1.0] * 15 + [3.0]
    found = training(sticks, f"joint_weights = {weights}\n").source.batch(0, 8, np.random.default_rng(1)).weights
    assert found[:, 0].max() == 0
    assert found[:, 16].max() == 3


def test_the_shipped_checkpoint_is_a_beginning(sticks: Path) -> None:
    made = training(sticks)
    shipped = SHIPPED / "checkpoints" / "pose.pt"
    checkpoints.load_weights(shipped, made.network)
    expected = torch.load(shipped, weights_only=True)["ema"]
    assert all(torch.equal(value, expected[key]) for key, value in made.network.state_dict().items())


def test_a_released_checkpoint_is_a_beginning(sticks: Path, tmp_path: Path) -> None:
    made, other = training(sticks), training(sticks)
    averages = torch.load(SHIPPED / "checkpoints" / "pose.pt", weights_only=True)["ema"]
    state = {name: value.numpy() for name, value in averages.items() if not name.endswith("num_batches_tracked")}
    (tmp_path / "released.safetensors").write_bytes(write_safetensors(state, {"format": "pt"}))
    checkpoints.load_weights(tmp_path / "released.safetensors", made.network)
    checkpoints.load_weights(SHIPPED / "checkpoints" / "pose.pt", other.network)
    own = made.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in other.network.state_dict().items() if name in state)
    del state["final_layer.bias"]
    (tmp_path / "less.safetensors").write_bytes(write_safetensors(state, {}))
    with pytest.raises(PosewireError, match=r"does not hold this network's weights: final_layer\.bias is missing"):
        checkpoints.load_weights(tmp_path / "less.safetensors", made.network)


def test_images_are_normalised_as_the_service_does(sticks: Path) -> None:
    made = training(sticks)
    batch = made.source.batch(0, 2, np.random.default_rng(1))
    lesson = made.prepare(batch, torch.device("cpu"))
    assert lesson.taught is None
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    wanted = (batch.images.permute(0, 2, 3, 1).numpy() - mean) / std
    np.testing.assert_allclose(lesson.images.permute(0, 2, 3, 1).numpy(), wanted, atol=1e-5)


def test_leaks_end_the_run_before_it_begins(sticks: Path) -> None:
    data = crops.open_crops(sticks / "data" / cutting.TRAIN)
    recipe = toml.load(sticks / "recipe.toml", recipes.PoseRecipe)
    with pytest.raises(PosewireError, match=r"^48 held-out images are in the training data; take them out:\n  coco/000000000000: "):
        pose.PoseTraining(recipe, data, data)


def test_a_fault_is_told_in_one_line(sticks: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f"learn = 1\n{RECIPE}")
    options = command(sticks, tmp_path / "work", "--recipe", tmp_path / "recipe.toml")
    run = subprocess.run(options, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == f"{tmp_path}/recipe.toml: learn: there is no such key\n"


def test_people_for_research_are_left_out_if_asked(sticks: Path) -> None:
    recipe = toml.load(sticks / "recipe.toml", recipes.PoseRecipe)
    people, held_out = (crops.open_crops(sticks / "data" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    research = replace(people, sources=["lspet"])
    assert pose.PoseTraining(recipe, research, held_out).source.chances.sum() == pytest.approx(1)
    with pytest.raises(PosewireError, match="all sources that are there the weight 0: lspet"):
        pose.PoseTraining(recipe, research, held_out, no_research=True)


def test_a_recipe_that_fits_nothing_is_refused(sticks: Path) -> None:
    with pytest.raises(PosewireError, match="gives all sources that are there the weight 0: sticks"):
        training(sticks, stage=f"{RECIPE}[sources]\nsticks = 0\n")
    with pytest.raises(PosewireError, match="litehrnet-19"):
        training(sticks, 'network = "litehrnet-19"\n')
