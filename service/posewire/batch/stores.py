"""Where the results of a batch lie: a folder of this machine, or a prefix of a store that fsspec reaches."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from filelock import FileLock, Timeout

from posewire.batch.places import file_system, is_remote, local_path, reason_of, telling
from posewire.errors import PosewireError
from posewire.files import create_temporary, write_atomically

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LOCK: Final = ".lock"
_TEMPORARY: Final = ".posewire-"


class Store(Protocol):
    """Files by their names, which may have one folder. Every method raises PosewireError if the store cannot do it."""

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, "" for the store itself, sorted; empty if there is none."""

    def read(self, name: str) -> bytes | None:
        """Return a whole file; None: there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it. If the process dies meanwhile, a part of it may be there on some stores."""

    def exists(self, name: str) -> bool:
        """Return True if there is such a file."""

    def writing(self, name: str, folder: str) -> AbstractContextManager[IO[bytes]]:
        """Write a file, or replace it, piece by piece: it appears when the block has ended without an error.

        Args:
            name: of the file.
            folder: where a part of it may lie meanwhile, if the store can rename.
        """

    def clean(self, folder: str) -> None:
        """Remove what `write` and `writing` have left in a folder when their process was killed."""

    def remove(self, names: list[str]) -> None:
        """Remove files, if they are there."""

    def remove_all(self) -> None:
        """Remove everything."""

    def locked(self) -> AbstractContextManager[object]:
        """Keep other processes of this machine out, where the store can.

        Raises:
            PosewireError: another process has it.
        """


def open_store(address: str) -> Store:
    """Return the store at an address; nothing is made before something is written.

    Raises:
        NotInstalled, PosewireError: as `file_system`.
    """
    return _RemoteStore(address) if is_remote(address) else _LocalStore(local_path(address))


class _LocalStore:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: str) -> list[str]:
        with self._telling("read"):
            path = self._root / folder
            if not path.exists():
                return []
            names = (one.name for one in path.iterdir())
            return sorted(name for name in names if name != LOCK and not name.startswith(_TEMPORARY))

    def read(self, name: str) -> bytes | None:
        with self._telling("read"):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        with self._telling("written"):
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)

    def exists(self, name: str) -> bool:
        with self._telling("read"):
            return (self._root / name).exists()

    def clean(self, folder: str) -> None:
        with self._telling("written"):
            for left in (self._root / folder).glob(f"{_TEMPORARY}*"):
                left.unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str, folder: str) -> Iterator[IO[bytes]]:
        path = self._root / name
        with self._telling("written"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
            handle, temporary = create_temporary(self._root / folder / name)
        try:
            with self._telling("written"):
                with os.fdopen(handle, "wb") as file:
                    yield file
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, names: list[str]) -> None:
        with self._telling("written"):
            for name in names:
                (self._root / name).unlink(missing_ok=True)

    def remove_all(self) -> None:
        with self._telling("written"):
            for folder, folders, files in os.walk(self._root, topdown=False):
                for name in files:
                    Path(folder, name).unlink(missing_ok=True)
                for name in folders:
                    Path(folder, name).rmdir()
            if self._root.exists():
                self._root.rmdir()

    @contextmanager
    def locked(self) -> Iterator[object]:
        with self._telling("written"):
            self._root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._root / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise PosewireError(f"{self._root}: another process writes its results there; wait until it has ended") from None
        try:
            yield lock
        finally:
            lock.release()

    @contextmanager
    def _telling(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = "it is a file, a folder is needed" if error.errno in (errno.ENOTDIR, errno.EEXIST) else reason_of(error)
            raise PosewireError(f"{self._root} cannot be {done}: {reason}") from None


class _RemoteStore:
    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        system, path = file_system(self._address)
        self._system: AbstractFileSystem = system
        self._root = path.rstrip("/")

    def names(self, folder: str) -> list[str]:
        with telling(self._address):
            path = self._path(folder).rstrip("/")
            self._system.invalidate_cache()
            try:
                found = self._system.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            names = (str(one).rstrip("/").rpartition("/")[2] for one in found if str(one).rstrip("/") != path)
            return sorted(name for name in names if name)

    def read(self, name: str) -> bytes | None:
        with telling(self._address):
            try:
                data: bytes = self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        with telling(self._address, "written"):
            self._in_folder(name, lambda path: self._system.pipe_file(path, data))

    def exists(self, name: str) -> bool:
        with telling(self._address):
            self._system.invalidate_cache()
            return bool(self._system.exists(self._path(name)))

    def clean(self, folder: str) -> None:
        pass  # there are no other names than those that were asked for

    @contextmanager
    def writing(self, name: str, folder: str) -> Iterator[IO[bytes]]:  # noqa: ARG002 - it cannot rename
        # Of a file that is written piece by piece, fsspec may store a part when it is closed after an error.
        with telling(self._address, "written"), tempfile.NamedTemporaryFile() as copy:
            yield copy
            copy.flush()
            self._in_folder(name, lambda path: self._system.put_file(copy.name, path))

    def remove(self, names: list[str]) -> None:
        with telling(self._address, "written"):
            for name in names:
                try:
                    self._system.rm_file(self._path(name))
                except FileNotFoundError:
                    continue

    def remove_all(self) -> None:
        with telling(self._address, "written"):
            self._system.invalidate_cache()
            if self._system.exists(self._root):
                self._system.rm(self._root, recursive=True)

    @contextmanager
    def locked(self) -> Iterator[object]:
        yield None

    def _in_folder(self, name: str, write: Callable[[str], object]) -> None:
        """Write a file; make its folder if the store has folders that must be made."""
        path = self._path(name)
        try:
            write(path)
        except FileNotFoundError:
            bucket = path.partition("/")[0]
            if bucket and not self._system.exists(bucket):
                raise  # some stores would make the bucket, whose name may be a typing error
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            write(path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root
