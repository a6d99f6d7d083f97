"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posewire.errors import PosewireError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder, which is there; the hold ends with the process, however that ends.

    Raises:
        PosewireError: another process holds it.
    """
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PosewireError(f"another process works in {folder}: wait for it, or name another folder") from None
        yield
