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

TIMES = {"minutes", "pictures_per_s"}


def curves(work: Path) -> list[dict[str, str]]:
    """The rows, but for the columns of time, which no two runs share."""
    with (work / "curves.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def make(work: Path, recipe: Any = toy.RECIPE) -> Any:
    work.mkdir(exist_ok=True)
    return trainers.Trainer(toy.Toy(), recipe, work)


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
    for part in ("ema", "m"):
        assert all(torch.equal(ours[part][key], theirs[part][key]) for key in theirs[part])


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
