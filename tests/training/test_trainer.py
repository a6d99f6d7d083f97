"""The loop, with a training that takes a second."""

import csv
import importlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from posewire.errors import PosewireError

torch: Any = pytest.importorskip("torch", reason="torch is not installed: the training's loop is not tested")
toy: Any = importlib.import_module("tests.training.toy")
trainers: Any = importlib.import_module("model_store.training.trainer")
checkpoints: Any = importlib.import_module("model_store.training.checkpoints")
recipes: Any = importlib.import_module("model_store.training.recipe")

TIMES = {"minutes", "images_per_s"}


def curves(work: Path) -> list[dict[str, str]]:
    """The rows, but for the columns of time, which no two runs share."""
    with (work / "curves.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def make(work: Path, recipe: Any = toy.RECIPE, **how: Any) -> Any:
    work.mkdir(exist_ok=True)
    return trainers.Trainer(toy.Toy(), recipe, work, **how)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two checkpoints hold the same tensors."""
    return all(torch.equal(ours[part][key], theirs[part][key]) for part in ("ema", "m", "auxiliary") for key in theirs[part])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("undisturbed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert make(work).run()
    torch.set_num_threads(threads)
    return work


def start(work: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.training.toy", str(work)], stdout=subprocess.PIPE, text=True)


def test_it_learns_and_tells(undisturbed: Path) -> None:
    rows = curves(undisturbed)
    assert [float(row["seen"]) for row in rows] == list(range(8, toy.SAMPLES + 1, 8))
    assert float(rows[-1]["error"]) < 0.3 < float(rows[0]["error"])
    assert {row["height"] for row in rows[:25]} == {"1.0"}
    assert {row["height"] for row in rows[25:]} == {"2.0"}
    content = checkpoints.load(checkpoints.newest(undisturbed / "checkpoints"))
    assert content["seen"] == toy.SAMPLES
    assert set(content["ema"]) == set(content["m"]) == {"weight", "bias"}
    assert content["hw"] == (2, 1)


def test_killed_at_any_moment_it_goes_on_as_if_it_had_not_been(tmp_path: Path, undisturbed: Path) -> None:
    chance = random.Random()
    for _ in range(2):
        with start(tmp_path) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 20)):
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            process.kill()
    with start(tmp_path) as process:
        process.communicate()
    assert process.returncode == 0
    assert curves(tmp_path) == curves(undisturbed)
    ours, theirs = (checkpoints.load(checkpoints.newest(work / "checkpoints")) for work in (tmp_path, undisturbed))
    assert same(ours, theirs)
    assert (tmp_path / "errors.csv").read_text() == (undisturbed / "errors.csv").read_text()


def test_asked_to_stop_it_saves_and_goes_on_later(tmp_path: Path, undisturbed: Path) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0
    seen = checkpoints.load(checkpoints.newest(tmp_path / "checkpoints"))["seen"]
    assert 0 < seen < toy.SAMPLES
    again = make(tmp_path)
    assert again.seen == seen
    assert again.run()
    assert [row["seen"] for row in curves(tmp_path)] == [row["seen"] for row in curves(undisturbed)]


def test_what_is_trained_along_and_the_parts_of_the_loss_are_kept(undisturbed: Path) -> None:
    content = checkpoints.load(checkpoints.newest(undisturbed / "checkpoints"))
    assert content["auxiliary"]["scale.weight"].item() == pytest.approx(3, abs=0.5)
    with (undisturbed / "errors.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["seen"] for row in rows] == list(range(8, toy.SAMPLES + 1, 8))
    # Of the two steps of a row: when each began, so many samples had been seen.
    assert [row["share"] for row in rows] == pytest.approx([(row["seen"] - 6) / toy.SAMPLES for row in rows])
    assert rows[-1]["scale"] < 0.3 < rows[0]["scale"]


def test_a_training_begins_once(tmp_path: Path) -> None:
    for started in (True, False):
        first = make(tmp_path / str(started), started=started)
        assert first.training.begun == [started]
        first.run(minutes=0)
        assert make(tmp_path / str(started)).training.begun == []


def test_processes_draw_the_same_batches(tmp_path: Path, undisturbed: Path) -> None:
    assert make(tmp_path, machine=trainers.Machine(workers=2)).run()
    ours, theirs = (checkpoints.load(checkpoints.newest(work / "checkpoints")) for work in (tmp_path, undisturbed))
    assert same(ours, theirs)


def test_the_network_may_compute_in_bfloat16(tmp_path: Path, undisturbed: Path) -> None:
    assert make(tmp_path, machine=trainers.Machine(bf16=True)).run()
    ours, theirs = (checkpoints.load(checkpoints.newest(work / "checkpoints"))["ema"]["weight"] for work in (tmp_path, undisturbed))
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


def test_a_leg_may_be_of_minutes(tmp_path: Path) -> None:
    trainer = make(tmp_path, toy.RECIPE.model_copy(update={"minutes": 0.01}))
    trainer.run(minutes=0)
    assert trainer.tell().startswith("0.0 of 0.01 minutes, 4 samples: ")
    again = make(tmp_path, toy.RECIPE.model_copy(update={"minutes": 0.01}))
    assert again.seconds == trainer.seconds > 0
    assert again.run()
    assert again.share_done >= 1
    assert again.tell().startswith("done: ")
    # The second stage of two thirds of the samples has two thirds of the time.
    assert curves(tmp_path)[0]["height"] == "1.0"
    assert curves(tmp_path)[-1]["height"] == "2.0"
    assert float(curves(tmp_path)[-1]["rate"]) < 0.01 * toy.RECIPE.optimiser.rate + 1e-5


def test_minutes_are_a_budget_of_one_run(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    assert not trainer.run(minutes=0)
    assert trainer.seen == toy.RECIPE.batch
    assert "the same command goes on" in trainer.tell()
    again = make(tmp_path)
    assert not again.run(minutes=0)
    assert again.seen == 2 * toy.RECIPE.batch
    assert len(curves(tmp_path)) == 1


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, undisturbed: Path) -> None:
    trainer = make(tmp_path)
    for _ in range(5):
        trainer.run(minutes=0)
    newest, before = sorted((tmp_path / "checkpoints").glob("*.pt"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-100])
    (tmp_path / "checkpoints" / "next.tmp").write_bytes(b"half")
    again = make(tmp_path)
    assert again.seen == int(before.name[:12]) == 16
    assert again.run()
    assert [row["seen"] for row in curves(tmp_path)] == [row["seen"] for row in curves(undisturbed)]
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(b"nothing")
    with pytest.raises(PosewireError, match=r"all 2 checkpoints in .* are damaged"):
        make(tmp_path)


def test_only_two_checkpoints_are_kept(undisturbed: Path) -> None:
    assert sorted(path.name[:12] for path in (undisturbed / "checkpoints").iterdir()) == ["000000000592", "000000000600"]


def test_another_recipe_does_not_go_on(tmp_path: Path) -> None:
    make(tmp_path).run(minutes=0)
    with pytest.raises(PosewireError, match=r"another recipe: name another folder, with --start .*000000000004-"):
        make(tmp_path, toy.RECIPE.model_copy(update={"seed": 1}))


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.training.spoil_from = 100
    with pytest.raises(PosewireError, match=r"the loss is nan after 100 samples.*lower the rate"):
        trainer.run()
    content = checkpoints.load(checkpoints.newest(tmp_path / "checkpoints"))
    assert content["seen"] == 96
    assert all(torch.isfinite(value).all() for value in content["m"].values())


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_goes_up_and_then_by_its_schedule(schedule: str) -> None:
    how = recipes.Optimiser(rate=1.0, floor=0.1, warmup=10, schedule=schedule)
    assert trainers.rate_at(how, 0, 0.0) == pytest.approx(0.1)
    assert trainers.rate_at(how, 9, 0.0) == pytest.approx(1)
    assert trainers.rate_at(how, 50, 0.5) == pytest.approx(0.55 if schedule == "cosine" else 1)
    assert trainers.rate_at(how, 99, 1.0) == pytest.approx(0.1 if schedule == "cosine" else 1)


def test_a_rate_may_stay_before_it_falls() -> None:
    how = recipes.Optimiser(rate=1.0, floor=0.01, warmup=1, flat=0.4)
    assert [trainers.rate_at(how, 9, share) for share in (0.0, 0.4)] == [1, 1]
    assert trainers.rate_at(how, 9, 0.7) == pytest.approx(0.505)
    assert trainers.rate_at(how, 9, 1.0) == pytest.approx(0.01)


@pytest.mark.parametrize("clip", [0.0, 1e-6])
def test_gradients_are_clipped_if_the_recipe_says_so(tmp_path: Path, clip: float) -> None:
    # SGD would show it better, but AdamW's first step is the same for gradients of any size above its epsilon, 1e-8.
    optimiser = toy.RECIPE.optimiser.model_copy(update={"clip": clip, "warmup": 1, "weight_decay": 0.0})
    trainer = make(tmp_path, toy.RECIPE.model_copy(update={"optimiser": optimiser}))
    trainer.run(minutes=0)
    gradients = [state["exp_avg"].abs().max().item() for state in trainer.optimiser.state.values()]
    assert (max(gradients) <= 1e-7) == (clip > 0)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\3\4"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(PosewireError, match=r"x\.pt is not a checkpoint"):
        checkpoints.load_weights(tmp_path / "x.pt", torch.nn.Linear(8, 1))
    with pytest.raises(PosewireError, match="cannot be read: No such file"):
        checkpoints.load(tmp_path / "y.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"ema": torch.nn.Linear(4, 1).state_dict()}, tmp_path / "x.pt")
    with pytest.raises(PosewireError, match=r"x\.pt does not hold this network's weights: size mismatch for weight"):
        checkpoints.load_weights(tmp_path / "x.pt", torch.nn.Linear(8, 1))
