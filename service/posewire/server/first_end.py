"""Tasks that belong together."""

import asyncio
from collections.abc import Sequence


async def first_end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until one task ends, cancel the others, and raise its error."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
