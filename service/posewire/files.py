"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from posewire.errors import PosewireError


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        PosewireError: it cannot be made; says why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosewireError(f"{path} cannot be made: {error.strerror}") from None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that no reader, crash or full disk ever leaves half of it.

    Raises:
        PosewireError: it cannot be written; says why.
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
