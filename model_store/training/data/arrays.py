"""A folder of arrays that are made once, row by row, and then read through memory maps.

The work goes on where it was stopped, and the folder has its name only when it is whole.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.lib.format import open_memmap

from model_store.training.locks import exclusive
from posewire.errors import PosewireError
from posewire.files import make_folder, write_atomically

T = TypeVar("T")
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# Tasks between two notes of how far the work is.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Rows:
    """An array that is to be made."""

    shape: tuple[int, ...]  # of one row
    dtype: str


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """What makes the rows from `start` up to `stop`."""

    start: int
    stop: int
    item: T


@dataclass(frozen=True, slots=True, eq=False)
class Plan(Generic[T]):
    """All that a folder will hold."""

    tasks: Sequence[Task[T]]  # in the order of their rows
    work: Callable[[T], Mapping[str, Array]]  # gives `rows` of an item; runs on several threads
    rows: Mapping[str, Rows]
    given: Mapping[str, Array]  # arrays that are known already
    notes: Mapping[str, Any]  # for JSON
    source: str  # names what the items are made from, so that other items are told from these

    @property
    def digest(self) -> str:
        """Differs for different items, arrays or notes."""
        digest = hashlib.sha256(json.dumps([self.source, dict(self.notes), {k: [r.shape, r.dtype] for k, r in self.rows.items()}]).encode())
        for name in sorted(self.given):
            digest.update(np.ascontiguousarray(self.given[name]).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """What a folder holds."""

    arrays: Mapping[str, Array]  # memory maps, read only
    notes: Mapping[str, Any]


def build(folder: Path, plan: Plan[T], *, workers: int, advance: Callable[[], None]) -> None:
    """Make a folder, or go on making it; nothing is done if it is there already.

    Args:
        folder: to be made; the work is in `folder` with `.partial` behind it.
        plan: what to make.
        workers: threads.
        advance: called after every task, also those done before.

    Raises:
        PosewireError: the folder holds something else, another process makes it, or the disk is too small.
    """
    if folder.exists():
        if _notes(folder).get("digest") != plan.digest:
            raise PosewireError(f"{folder} was made from other data or in another way: remove it, or name another folder")
        for _ in plan.tasks:
            advance()
        return
    partial = folder.with_name(f"{folder.name}.partial")
    make_folder(partial)
    with exclusive(partial):
        _make(partial, plan, workers, advance)
        content = {"digest": plan.digest, "notes": dict(plan.notes)}
        write_atomically(partial / "index.json", json.dumps(content).encode())
        partial.rename(folder)
        (folder / "progress.json").unlink()


def read(folder: Path) -> Arrays:
    """Open what `build` made.

    Raises:
        PosewireError: it is not there, or not whole.
    """
    notes = _notes(folder)
    if "digest" not in notes:
        unfinished = folder.with_name(f"{folder.name}.partial").exists()
        why = "its making was stopped: start it again, it goes on" if unfinished else "cut it first"
        raise PosewireError(f"{folder} is not there; {why}: python -m model_store.training.data cut")
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    return Arrays(arrays, notes["notes"])


def _notes(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "index.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _make(partial: Path, plan: Plan[T], workers: int, advance: Callable[[], None]) -> None:
    total = plan.tasks[-1].stop if plan.tasks else 0
    done = _resume(partial, plan.digest)
    if done == 0:
        for path in partial.glob("*.npy"):
            path.unlink()
        _require_space(partial, plan, total)
        for name, array in plan.given.items():
            np.save(partial / f"{name}.npy", array)
        for name, rows in plan.rows.items():
            open_memmap(partial / f"{name}.npy", "w+", rows.dtype, (total, *rows.shape)).flush()
        _note_progress(partial, plan.digest, 0)
    # An empty array has nothing to map.
    maps = {name: np.load(partial / f"{name}.npy", mmap_mode="r+") for name in plan.rows} if total else {}
    for _ in range(done):
        advance()
    with ThreadPoolExecutor(workers) as pool:
        for first in range(done, len(plan.tasks), _BLOCK):
            block = plan.tasks[first : first + _BLOCK]
            for task, made in zip(block, pool.map(lambda task: plan.work(task.item), block), strict=True):
                for name, values in made.items():
                    maps[name][task.start : task.stop] = values
                advance()
            for array in maps.values():
                array.flush()
            _note_progress(partial, plan.digest, first + len(block))


def _resume(partial: Path, digest: str) -> int:
    """How many tasks are done of this very plan."""
    try:
        note = json.loads((partial / "progress.json").read_bytes())
        return int(note["done"]) if note["digest"] == digest else 0
    except (OSError, ValueError, KeyError):
        return 0


def _note_progress(partial: Path, digest: str, done: int) -> None:
    write_atomically(partial / "progress.json", json.dumps({"digest": digest, "done": done}).encode())


def _require_space(partial: Path, plan: Plan[T], total: int) -> None:
    needed = sum(total * int(np.prod(rows.shape)) * np.dtype(rows.dtype).itemsize for rows in plan.rows.values())
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise PosewireError(f"{partial} needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free: make room, or cut smaller")
