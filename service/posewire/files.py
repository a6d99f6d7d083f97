"""Read and write files safely: bounded reads of plain files, whole files or none, no link that somebody else has planted."""

import os
import secrets
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

from posewire.errors import PosewireError

# Each file that Posewire makes has the permissions that the user's umask leaves.
_MODE: Final = 0o666
# Windows has none of these; there, files are opened without text conversion instead.
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)  # fmt: skip


class UnreadableFile(PosewireError):
    """A file cannot be read; `reason` is the message without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        PosewireError: the folder cannot be made; the message says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosewireError(f"{path} cannot be made: {error.strerror}") from None


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file, for reading. Never waits, unlike `open` for a pipe.

    Raises:
        UnreadableFile: it is a folder, pipe, socket or device, or it cannot be opened.
    """
    try:
        _check_plain(path, path.stat())  # first by name: to open a device may have effects
        handle = os.fdopen(os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY), "rb")
        try:
            _check_plain(path, os.fstat(handle.fileno()))
        except BaseException:
            handle.close()
            raise
    except OSError as error:
        raise UnreadableFile(path, f"cannot be read: {error.strerror}") from None
    return handle


def read_plain(path: Path, max_bytes: int) -> bytes:
    """Read a plain file of at most `max_bytes`.

    Raises:
        UnreadableFile: as `open_plain`, or it has more bytes; at most one byte more than allowed has been read.
    """
    with open_plain(path) as handle:
        try:
            size = os.fstat(handle.fileno()).st_size
            content = handle.read(max_bytes + 1) if size <= max_bytes else b""
        except OSError as error:
            raise UnreadableFile(path, f"cannot be read: {error.strerror}") from None
    if max(size, len(content)) > max_bytes:  # a file may grow, and those of /proc have no size
        raise UnreadableFile(path, f"the file has {max(size, len(content)):,} bytes; at most {max_bytes:,} are taken")
    return content


def _check_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for fits, kind in _KINDS if fits(found.st_mode)), "no plain file")
        raise UnreadableFile(path, f"cannot be read: it is {kind}, a file is needed")


def create(path: Path) -> int:
    """Create a file for writing; return its descriptor. The permissions are those that the umask leaves.

    Raises:
        OSError: it cannot be created. FileExistsError: something has this name; a link there is not followed.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY, _MODE)


def open_own(path: Path) -> int:
    """Open a file of this program for writing at its end, or create it; return its descriptor.

    Raises:
        OSError: it cannot be opened, or it is a link: somebody else has planted it.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK | _NO_WAIT | _BINARY, _MODE)


def create_temporary(target: Path) -> tuple[int, Path]:
    """Create a hidden file beside `target`, to be renamed to it; return its descriptor and its path.

    Raises:
        OSError: it cannot be created.
    """
    temporary = target.with_name(f".posewire-{secrets.token_hex(8)}{target.suffix}")  # short, as the target's name may be as long as can be
    return create(temporary), temporary


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, also if the process crashes or the disk is full. A link of that name is replaced.

    Raises:
        PosewireError: the file cannot be written; the message says why.
    """
    temporary: Path | None = None
    try:
        handle, temporary = create_temporary(path)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        raise PosewireError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
