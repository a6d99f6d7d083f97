"""Files that some machines have beside the checkout: published teachers and checkpoints, which are never committed."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("POSEWIRE_SHARED") or Path(__file__).parents[3] / "shared")


def shared(name: str) -> Path:
    """One of the files; the test is skipped where it is not."""
    if not (SHARED / name).is_file():
        pytest.skip(f"{SHARED / name} is not here")
    return SHARED / name
