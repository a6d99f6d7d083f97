"""Block-wise distillation of both networks, on people made of sticks, from teachers with random weights."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_store.training import toml
from model_store.training.data import cutting
from model_store.training.data.records import swap_sides
from model_store.training.data.sets import load_sets
from model_store.training.targets import encode
from posewire.errors import PosewireError
from tests.training.data.stick import stick_sets

torch: Any = pytest.importorskip("torch", reason="torch is not installed: nothing is distilled")
checkpoints: Any = importlib.import_module("model_store.training.checkpoints")
commands: Any = importlib.import_module("model_store.training.commands")
crops: Any = importlib.import_module("model_store.training.data.crops")
detector: Any = importlib.import_module("model_store.training.detector")
networks: Any = importlib.import_module("model_store.training.networks")
pose: Any = importlib.import_module("model_store.training.pose")
recipes: Any = importlib.import_module("model_store.training.recipe")
rtmdet: Any = importlib.import_module("model_store.training.rtmdet")
scenes: Any = importlib.import_module("model_store.training.data.scenes")
trainers: Any = importlib.import_module("model_store.training.trainer")

POSE = """
network = "wider-naive-litehrnet-18"
batch = 4
log_every = 8

[optimiser]
rate = 1e-2
warmup = 1
flat = 0.5
clip = 0

[[stages]]
height = 64
width = 32
sigma = 1.0
samples = 24

[distillation]
"""
DETECTOR = """
batch = 2
log_every = 4

[optimiser]
rate = 1e-2
warmup = 1
clip = 0

[[stages]]
size = 64
samples = 8
mosaic = 0.5

[distillation]
"""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of cut people and images, recipes and teachers."""
    folder = tmp_path_factory.mktemp("blockwise")
    sets = load_sets(stick_sets(folder, train=12, held_out=4))
    cutting.cut_people(sets, folder, folder / "people", side=96, workers=2, report=lambda total, what: lambda: None)
    cutting.cut_scenes(sets, folder, folder / "images", side=96, workers=2, report=lambda total, what: lambda: None)
    (folder / "pose.toml").write_text(POSE)
    (folder / "detector.toml").write_text(DETECTOR)
    wide = networks.build("wider-naive-litehrnet-18")
    pose.initialise(wide, 7)
    torch.nn.init.normal_(wide.final_layer.weight, std=0.1)
    torch.save({"ema": wide.state_dict()}, folder / "wide.pt")
    torch.manual_seed(7)
    torch.save({"ema": rtmdet.build("rtmdet-nano").state_dict()}, folder / "nano.pt")
    return folder


def pose_training(sticks: Path, text: str = "", teacher: str = "wide.pt", **changes: Any) -> Any:
    (sticks / "changed.toml").write_text(POSE + text)
    recipe = toml.load(sticks / "changed.toml", recipes.PoseRecipe).model_copy(update=changes)
    data = (crops.open_crops(sticks / "people" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    return pose.PoseTraining(recipe, *data, sticks / teacher)


def detector_training(sticks: Path, text: str = "") -> Any:
    (sticks / "changed.toml").write_text(DETECTOR + text)
    data = (scenes.open_scenes(sticks / "images" / name) for name in (cutting.TRAIN, cutting.HELD_OUT))
    return detector.DetectorTraining(toml.load(sticks / "changed.toml", recipes.DetectorRecipe), *data, sticks / "nano.pt")


def lesson_of(training: Any, size: int = 2, seed: int = 1) -> Any:
    return training.prepare(training.source.batch(0, size, np.random.default_rng(seed)), CPU)


def run(task: str, sticks: Path, work: Path, *more: object) -> subprocess.CompletedProcess[str]:
    data, teacher = ("people", "wide.pt") if task == "pose" else ("images", "nano.pt")
    options = ["--recipe", sticks / f"{task}.toml", "--work", work, "--data", sticks / data, "--teacher", sticks / teacher, "--nice", 0]
    command = [sys.executable, "-m", f"model_store.training.{task}", *map(str, [*options, *more])]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def table(file: Path) -> list[dict[str, float]]:
    with file.open() as rows:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(rows)]


def test_a_pose_network_learns_its_teachers_maps_stops_and_goes_on(sticks: Path, tmp_path: Path) -> None:
    made = [pose_training(sticks) for _ in range(3)]
    assert not trainers.Trainer(made[0], made[0].recipe, tmp_path / "stopped").run(minutes=0)
    assert trainers.Trainer(made[1], made[1].recipe, tmp_path / "stopped").run()
    assert trainers.Trainer(made[2], made[2].recipe, tmp_path / "whole").run()
    stopped, whole = (checkpoints.load(checkpoints.newest(tmp_path / name / "checkpoints")) for name in ("stopped", "whole"))
    for part in ("m", "ema", "auxiliary"):
        assert all(torch.equal(stopped[part][name], value) for name, value in whole[part].items())
    rows = table(tmp_path / "whole" / "errors.csv")
    assert table(tmp_path / "stopped" / "errors.csv") == rows
    assert [row["seen"] for row in rows] == [8, 16, 24]
    assert len(rows[0]) == 1 + 24 + 1
    assert rows[-1]["backbone.stage0.0/0"] < rows[0]["backbone.stage0.0/0"]
    assert {"ap", "ap50"} <= set(table(tmp_path / "whole" / "curves.csv")[0])
    # The network alone is what ships.
    networks.build("wider-naive-litehrnet-18").load_state_dict(whole["ema"])


def test_the_command_takes_a_teacher(sticks: Path, tmp_path: Path) -> None:
    done = run("pose", sticks, tmp_path, "--minutes", 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 of 24 samples: ")


def test_the_loss_is_its_parts_by_their_weights(sticks: Path) -> None:
    training = pose_training(sticks, "final = 3\nlabel = 2\nflip = 0.5\nown = [0.0, 0.0]\n")
    lesson = lesson_of(training)
    training.begin(lesson, False)
    loss = training.loss(training.network, lesson, 0.0)
    parts = {name: part.item() for name, part in loss.parts.items()}
    maps = sum(part for name, part in parts.items() if name.startswith("backbone."))
    assert loss.total.item() == pytest.approx(maps + 3 * parts["answer"] + 2 * parts["label"] + 0.5 * parts["flip"], rel=1e-4)
    assert min(parts.values()) > 0
    variance = lesson.taught.answer[0].var((0, 2, 3), keepdim=True)
    variance = variance + 0.1 * variance.mean()
    with torch.no_grad():
        answer = training.meetings.run(training.network, lesson.images, lesson.taught, 0.0, 0).answer[0]
        expected = ((answer - lesson.taught.answer[0]) ** 2 / variance).mean()
        errors = ((answer - lesson.heatmaps) ** 2).mean((2, 3))
        label = (errors * lesson.weights).sum() / lesson.weights.sum() / variance.mean()
    # Of the same weights; batch norms go by the batch.
    assert parts["answer"] == pytest.approx(expected.item(), rel=1e-3)
    assert parts["label"] == pytest.approx(label.item(), rel=1e-3)


def test_what_is_left_to_chance_depends_on_the_batch(sticks: Path) -> None:
    training = pose_training(sticks, "own = [0.5, 0.5]\n")
    lesson, other = lesson_of(training), lesson_of(training)
    training.begin(lesson, False)
    first, again = (training.loss(training.network, each, 0.0).total.item() for each in (lesson, other))
    assert first == again
    blocks = pose_training(sticks, 'meetings = "blocks"\nown = [0.5, 0.5]\n')
    each = lesson_of(blocks)
    blocks.begin(each, False)
    assert len(blocks.loss(blocks.network, each, 0.0).parts) == 24 + 48 + 1


def test_heatmaps_of_a_mirrored_crop_come_back_a_quarter_to_the_right() -> None:
    places = np.random.default_rng(0).uniform(30, 60, (1, 17, 2)).astype(np.float32)
    mirrored = swap_sides(np.stack([95 - places[..., 0], places[..., 1]], -1))
    back = pose.unmirrored(torch.from_numpy(encode(mirrored, 32, 24, 1.15)))
    # A heatmap pixel is four of the crop.
    np.testing.assert_allclose(back.numpy(), encode(places + np.array([1, 0], np.float32), 32, 24, 1.15), atol=1e-5)


def test_another_architecture_learns_by_way_of_adapters(sticks: Path, tmp_path: Path) -> None:
    text = "adapters = true\nown = [1.0, 1.0]\nfrom_logits = true\n"
    training = pose_training(sticks, text, network="litehrnet-18")
    torch.nn.init.ones_(training.network.final_layer.weight)
    trainer = trainers.Trainer(training, training.recipe, tmp_path, started=True)
    assert 0 < training.network.final_layer.weight.abs().max() < 0.01
    adapters = [p.clone() for p in training.meetings.parameters()]
    trainer.run(minutes=0)
    assert all(not torch.equal(a, b) for a, b in zip(adapters, training.meetings.parameters(), strict=True))
    content = checkpoints.load(checkpoints.newest(tmp_path / "checkpoints"))
    networks.build("litehrnet-18").load_state_dict(content["m"])
    assert sum(name.startswith("adapters.") for name in content["auxiliary"]) == 2 * 24


def test_what_cannot_be_met_is_told(sticks: Path) -> None:
    with pytest.raises(PosewireError, match="shufflenetv2 has no maps"):
        pose_training(sticks, network="shufflenetv2")
    with pytest.raises(PosewireError, match=r"after backbone\.stage0\.0 the student has maps of \[\(30, 16, 8\)"):
        pose_training(sticks, network="naive-litehrnet-18")
    with pytest.raises(PosewireError, match="does not hold this network's weights"):
        pose_training(sticks, teacher="nano.pt")


def test_the_teachers_file_is_asked_for(sticks: Path, tmp_path: Path) -> None:
    how = recipes.PoseDistillation(teacher=Path("t.pt"))
    assert commands.teacher_file(how, None, tmp_path) == tmp_path / "t.pt"
    assert commands.teacher_file(how, Path("other.pt"), tmp_path) == Path("other.pt")
    with pytest.raises(PosewireError, match="name its file with --teacher"):
        commands.teacher_file(recipes.PoseDistillation(), None, tmp_path)
    with pytest.raises(PosewireError, match=r"has no \[distillation\]"):
        commands.teacher_file(None, Path("t.pt"), tmp_path)


def test_a_detector_learns_block_by_block(sticks: Path, tmp_path: Path) -> None:
    done = run("detector", sticks, tmp_path, "--bf16", "--leg", 60, "--minutes", 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0.")
    assert "of 60 minutes, 2 samples: " in done.stdout
    training = detector_training(sticks)
    assert trainers.Trainer(training, training.recipe, tmp_path / "whole").run()
    rows = table(tmp_path / "whole" / "errors.csv")
    assert [row["seen"] for row in rows] == [4, 8]
    assert set(rows[0]) == {"seen", *training.meetings.places, "answer", "scores", "boxes"}
    assert rows[-1]["backbone.stem"] < rows[0]["backbone.stem"]


def test_a_detectors_norms_begin_with_the_teachers_moments(sticks: Path, tmp_path: Path) -> None:
    training = detector_training(sticks)
    norm = rtmdet.last_norm(training.network.get_submodule("neck.reduce_layers.0"))
    trainers.Trainer(training, training.recipe, tmp_path / "random")
    assert not torch.equal(norm.weight, torch.ones_like(norm.weight))
    started = detector_training(sticks)
    trainers.Trainer(started, started.recipe, tmp_path / "started", started=True)
    norm = rtmdet.last_norm(started.network.get_submodule("neck.reduce_layers.0"))
    assert torch.equal(norm.weight, torch.ones_like(norm.weight))
    assert not torch.equal(started.meetings.answer_variance(), torch.ones_like(started.meetings.answer_variance()))


def test_the_detectors_loss_is_its_parts_by_their_weights(sticks: Path) -> None:
    training = detector_training(sticks, "final = 2\nlabel = 0.25\n")
    lesson = lesson_of(training)
    training.begin(lesson, False)
    loss = training.loss(training.network, lesson, 0.0)
    parts = {name: part.item() for name, part in loss.parts.items()}
    maps = sum(parts[place] for place in training.meetings.places)
    answer = 0.3 * 2 * (parts["answer"] + parts["scores"] + parts["boxes"])
    assert loss.total.item() == pytest.approx(maps + answer + 0.25 * parts["label"], rel=1e-4)


@pytest.mark.parametrize("task", ["pose", "detector"])
def test_a_leg_on_a_lent_machine_leaves_weights_to_go_on_from(sticks: Path, tmp_path: Path, task: str) -> None:
    data, teacher = ("people", "wide.pt") if task == "pose" else ("images", "nano.pt")
    options = ["--recipe", sticks / f"{task}.toml", "--work", tmp_path, "--data", sticks / data, "--teacher", sticks / teacher]
    more = ["--device", "cpu", "--bf16", "--workers", 1, "--minutes", 0.01, "--batch", 2]
    command = [sys.executable, "-m", "model_store.training.gpu", task, *map(str, [*options, *more])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "weights.pt")
    network = networks.build("wider-naive-litehrnet-18") if task == "pose" else rtmdet.build("rtmdet-nano-lean")
    checkpoints.load_weights(tmp_path / "weights.pt", network)


def test_a_device_that_is_not_there_is_told(sticks: Path, tmp_path: Path) -> None:
    place = commands.Place(tmp_path, device="xpu:7")
    with pytest.raises(PosewireError, match="the device xpu:7 cannot be used"):
        place.machine()
    assert commands.Place(tmp_path).machine().bf16 is False
    assert commands.Place(tmp_path, bf16=True).machine().bf16 is True
