from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from model_store.training.data import arrays
from model_store.training.locks import exclusive
from posewire.errors import PosewireError

TASKS = 200  # more than a block


def plan(work: Callable[[int], Mapping[str, arrays.Array]], source: str = "s") -> arrays.Plan[int]:
    tasks = [arrays.Task(2 * n, 2 * n + 2, n) for n in range(TASKS)]
    return arrays.Plan(tasks, work, {"squares": arrays.Rows((3,), "int64")}, {"known": np.arange(4)}, {"colour": "red"}, source)


def square(n: int) -> Mapping[str, arrays.Array]:
    return {"squares": np.array([[n**2] * 3, [n**2 + 1] * 3])}


def nothing() -> None:
    return None


def test_a_folder_holds_what_was_made_and_what_was_given(tmp_path: Path) -> None:
    steps: list[int] = []
    arrays.build(tmp_path / "a", plan(square), workers=2, advance=lambda: steps.append(1))
    read = arrays.read(tmp_path / "a")
    assert read.arrays["squares"][:, 0].tolist() == [n**2 + odd for n in range(TASKS) for odd in (0, 1)]
    assert read.arrays["known"].tolist() == [0, 1, 2, 3]
    assert read.notes == {"colour": "red"}
    assert len(steps) == TASKS


def test_work_that_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    def breaks(n: int) -> Mapping[str, arrays.Array]:
        if n == 150:
            raise KeyboardInterrupt
        return square(n)

    with pytest.raises(KeyboardInterrupt):
        arrays.build(tmp_path / "a", plan(breaks), workers=1, advance=nothing)
    assert not (tmp_path / "a").exists()
    with pytest.raises(PosewireError, match="its making was stopped: start it again"):
        arrays.read(tmp_path / "a")
    done: list[int] = []
    steps: list[int] = []

    def again(n: int) -> Mapping[str, arrays.Array]:
        done.append(n)
        return square(n)

    arrays.build(tmp_path / "a", plan(again), workers=1, advance=lambda: steps.append(1))
    assert sorted(done) == list(range(128, TASKS))
    assert len(steps) == TASKS
    assert arrays.read(tmp_path / "a").arrays["squares"][:, 0].tolist() == [n**2 + odd for n in range(TASKS) for odd in (0, 1)]


def test_other_work_does_not_go_on_where_this_stopped(tmp_path: Path) -> None:
    def breaks(n: int) -> Mapping[str, arrays.Array]:
        if n == 150:
            raise KeyboardInterrupt
        return {"squares": np.full((2, 3), -1)}

    with pytest.raises(KeyboardInterrupt):
        arrays.build(tmp_path / "a", plan(breaks), workers=1, advance=nothing)
    arrays.build(tmp_path / "a", plan(square, source="other"), workers=1, advance=nothing)
    assert arrays.read(tmp_path / "a").arrays["squares"].min() == 0


def test_a_whole_folder_is_not_made_again_and_not_overwritten(tmp_path: Path) -> None:
    arrays.build(tmp_path / "a", plan(square), workers=1, advance=nothing)

    def never(n: int) -> Mapping[str, arrays.Array]:
        raise AssertionError(n)

    arrays.build(tmp_path / "a", plan(never), workers=1, advance=nothing)
    with pytest.raises(PosewireError, match="made from other data"):
        arrays.build(tmp_path / "a", plan(square, source="other"), workers=1, advance=nothing)


def test_two_processes_do_not_make_one_folder(tmp_path: Path) -> None:
    partial = tmp_path / "a.partial"
    partial.mkdir()
    with exclusive(partial), pytest.raises(PosewireError, match=r"another process works in .*a\.partial"):
        arrays.build(tmp_path / "a", plan(square), workers=1, advance=nothing)
    arrays.build(tmp_path / "a", plan(square), workers=1, advance=nothing)


def test_a_disk_that_is_too_small_is_told_at_once(tmp_path: Path) -> None:
    huge = arrays.Plan([arrays.Task(0, 10**12, 0)], square, {"squares": arrays.Rows((10**3,), "int64")}, {}, {}, "s")
    with pytest.raises(PosewireError, match="GB are free: make room"):
        arrays.build(tmp_path / "a", huge, workers=1, advance=nothing)
