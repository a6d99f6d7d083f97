"""Write files atomically, and make folders."""

import os
import tempfile
from pathlib import Path

from posewire.errors import PosewireError


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        PosewireError: the folder cannot be made; the message says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosewireError(f"{path} cannot be made: {error.strerror}") from None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all, also if the process crashes or the disk is full.

    Raises:
        PosewireError: the file cannot be written; the message says why.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise PosewireError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
