"""Deadlines: a block or an item that is late ends with `DeadlineExceeded`. Times are the event loop's, in seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from posewire.errors import DeadlineExceeded

_MODEL = "before the model had run"


def exceeded(phase: str = _MODEL) -> DeadlineExceeded:
    """Return the error for a deadline that passed; `phase` says when."""
    return DeadlineExceeded(f"the deadline passed {phase}")


def check_deadline(deadline: float | None) -> None:
    """Raise DeadlineExceeded if the deadline of a model run has passed; None: there is none."""
    if deadline is not None and deadline <= asyncio.get_running_loop().time():
        raise exceeded()


@asynccontextmanager
async def until(deadline: float | None, phase: str = _MODEL) -> AsyncIterator[None]:
    """Limit the time of a block.

    Args:
        deadline: in the event loop's time; None: none.
        phase: says in the error when the deadline passed.

    Raises:
        DeadlineExceeded: the deadline passed.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise exceeded(phase) from None
