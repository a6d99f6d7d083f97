"""How many decoded pixels may be in memory at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class PixelBudget:
    """Pictures wait here, first come first served, until their pixels fit in; one that is over the limit goes alone.

    A count of pictures does not bound memory: a picture of 50 megapixels takes 150 MB.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[None]:
        """Have room for so many pixels for as long as the block runs."""
        pixels = min(pixels, self._limit)
        entry = pixels, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        self._let_in()
        try:
            await entry[1]
            yield
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self._free += pixels
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            pixels, turn = self._waiting.popleft()
            self._free -= pixels
            if not turn.done():  # who goes away at this moment gives the room back
                turn.set_result(None)
