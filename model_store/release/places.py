"""Files that come into a model store together or not at all, whatever happens half-way."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from posewire.errors import PosewireError
from posewire.files import make_folder, write_atomically

_WORK: Final = ".release"
_JOURNAL: Final = "journal.json"


@contextmanager
def workplace(store: Path) -> Iterator[Path]:
    """A folder in the store to prepare a release in; it is gone afterwards. What a killed release left half-way is undone first.

    Raises:
        PosewireError: another release is at work, or the store cannot be written to.
    """
    make_folder(store)
    work = store / _WORK
    lock = store / f"{_WORK}.lock"
    with _locked(lock):
        try:
            undo(store)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            yield work
        except OSError as error:
            raise PosewireError(f"{error.filename or store}: {error.strerror}") from None
        finally:
            shutil.rmtree(work, ignore_errors=True)
            lock.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    try:
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise PosewireError(f"another release is at work in {lock.parent}") from None
    except PermissionError as error:
        raise PosewireError(f"{lock.parent} cannot be written to: {error.strerror}") from None


def put(store: Path, files: Mapping[str, bytes]) -> None:
    """Write files into the store, in this order, so that all are there or none; within `workplace`.

    Args:
        store: the folder.
        files: by their paths in it; the last one, the manifest, is what makes the others count.

    Raises:
        PosewireError: a file cannot be written; the store is as it was.
    """
    work = store / _WORK
    for path in files:
        if (store / path).exists():
            make_folder((work / "old" / path).parent)
            shutil.copy2(store / path, work / "old" / path)
    write_atomically(work / _JOURNAL, json.dumps(list(files)).encode())
    try:
        for path, content in files.items():
            make_folder((store / path).parent)
            write_atomically(store / path, content)
    except BaseException:
        undo(store)
        raise
    (work / _JOURNAL).unlink()


def undo(store: Path) -> None:
    """Take back what a `put` wrote that did not come to its end."""
    work = store / _WORK
    journal = work / _JOURNAL
    if not journal.exists():
        return
    for path in json.loads(journal.read_bytes()):
        old = work / "old" / path
        if old.exists():
            old.replace(store / path)
        else:
            (store / path).unlink(missing_ok=True)
    journal.unlink()
