"""Files by their address: a path of this machine, or an address of fsspec such as `s3://bucket/key`."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from posewire.errors import NotInstalled, PosewireError
from posewire.files import UnreadableFile, open_plain, read_plain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_LOCAL = "file://"


class Unreadable(PosewireError):
    """A source cannot be read; `reason` is the message without the address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a folder or of a pattern."""

    address: str
    bytes: int


def is_remote(address: str) -> bool:
    """Return True if an address is one of fsspec, and no path."""
    return "://" in address and not address.startswith(_LOCAL)


def local_path(address: str) -> Path:
    """Return the path of an address that is not remote."""
    return Path(address.removeprefix(_LOCAL))


def absolute(address: str) -> str:
    """Return a remote address as it is, and a path from the root, so that the current folder does not matter."""
    return address if is_remote(address) else os.path.abspath(local_path(address))  # noqa: PTH100 - `resolve` would follow links


def file_system(address: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a remote address, and the address as that file system writes it.

    Raises:
        NotInstalled: fsspec, or what it needs for this kind of address, is not installed; the message says which.
        PosewireError: fsspec knows no such kind of address, or it needs other settings.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
    except ImportError:
        raise NotInstalled(f"{address} needs fsspec, which is not installed here: pip install 'posewire[batch]'") from None
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        raise NotInstalled(f"{address}: {reason_of(error)}; pip install the package that it names") from None
    except Exception as error:
        raise PosewireError(f"{address}: {reason_of(error)}") from None
    return system, str(path)


def list_folder(address: str) -> list[Found] | None:
    """Return the files below a folder, sorted by address; None: it is no folder.

    Raises:
        PosewireError: as `file_system`, or the folder cannot be read.
    """
    with telling(address):
        if not is_remote(address):
            folder = local_path(address)
            return sorted(_walk_local(folder), key=_address_of) if folder.is_dir() else None
        system, path = file_system(address)
        if not system.isdir(path):
            return None
        found = []
        for _, _, files in system.walk(path, detail=True):
            found += [Found(system.unstrip_protocol(one["name"]), int(one.get("size") or 0)) for one in files.values()]
        return sorted(found, key=_address_of)


def match_pattern(pattern: str) -> list[Found]:
    """Return the files that a remote pattern matches, sorted by address.

    Raises:
        PosewireError: as `file_system`, or the store cannot be read.
    """
    with telling(pattern):
        system, path = file_system(pattern)
        matches = system.glob(path, detail=True)
        found = [Found(system.unstrip_protocol(name), int(one.get("size") or 0)) for name, one in matches.items() if one["type"] == "file"]
        return sorted(found, key=_address_of)


def size_of(address: str) -> int | None:
    """Return the bytes of a file; None: there is none.

    Raises:
        PosewireError: as `file_system`, or the store cannot be asked.
    """
    with telling(address):
        try:
            if not is_remote(address):
                return local_path(address).stat().st_size
            system, path = file_system(address)
            return int(system.info(path).get("size") or 0)
        except (FileNotFoundError, NotADirectoryError):
            return None


def read_file(address: str, known_bytes: int, max_bytes: int) -> bytes:
    """Read a whole file; of one that is longer than allowed, at least one byte more.

    Args:
        address: of the file.
        known_bytes: its size, if the listing told it; 0: not known.
        max_bytes: that are allowed.

    Raises:
        Unreadable: it cannot be read; the reason says why.
    """
    with _reading(address):
        if not is_remote(address):
            return read_plain(local_path(address), max_bytes)
        system, path = file_system(address)
        if known_bytes:  # one request; a range would be a second one in some stores
            whole: bytes = system.cat_file(path)
            return whole
        with system.open(path, "rb") as file:
            content: bytes = file.read(max_bytes + 1)
        return content


@contextmanager
def open_file(address: str) -> Iterator[IO[bytes]]:
    """Open a file that can seek, for reading.

    Raises:
        Unreadable: it cannot be opened; also while it is read in the block.
    """
    with _reading(address):
        if is_remote(address):
            system, path = file_system(address)
            with system.open(path, "rb") as remote:
                yield remote
        else:
            with open_plain(local_path(address)) as local:
                yield local


def reason_of(error: BaseException) -> str:
    """Return one line that tells an error of a library."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def telling(address: str, done: str = "read") -> Iterator[None]:
    """Turn every error of the block into a PosewireError that names the file, or else the address.

    Args:
        address: that the block works on.
        done: what cannot be done with it, such as "written".
    """
    try:
        yield
    except PosewireError:
        raise
    except Exception as error:  # stores raise what they like
        raise PosewireError(f"{getattr(error, 'filename', None) or address} cannot be {done}: {reason_of(error)}") from None


@contextmanager
def _reading(address: str) -> Iterator[None]:
    try:
        yield
    except UnreadableFile as error:
        raise Unreadable(address, error.reason) from None
    except (PosewireError, GeneratorExit):
        raise
    except FileNotFoundError:
        raise Unreadable(address, f"cannot be read: {os.strerror(errno.ENOENT)}") from None
    except OSError as error:
        raise Unreadable(address, f"cannot be read: {reason_of(error)}") from None


def _walk_local(folder: Path) -> Iterator[Found]:
    """Yield the files below a folder. Links to folders are not followed, so that a circle has an end."""
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.is_dir():
                    yield Found(entry.path, _size(entry))


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere: it fails when it is read
        return 0


def _address_of(found: Found) -> Any:
    return os.fsencode(found.address)
