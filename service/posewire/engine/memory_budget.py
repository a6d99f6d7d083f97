"""Limits the decoded pixels in memory."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class PixelBudget:
    """A budget of pixels: images wait in the order of their arrival until their pixels fit. An image above the limit is exclusive.

    A number of images would not bound memory: an image of 50 megapixels takes 150 MB.

    Args:
        limit: pixels in memory at a time.
        waited: is told how long each image has waited, in seconds; also one that gave up.
    """

    def __init__(self, limit: int, waited: Callable[[float], object]) -> None:
        self._limit = limit
        self._waited = waited
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, pixels: int) -> AsyncIterator[None]:
        """Reserve so many pixels while the block runs."""
        pixels = min(pixels, self._limit)
        entry = pixels, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        self._admit()
        started = time.monotonic()
        try:
            try:
                await entry[1]
            finally:
                self._waited(time.monotonic() - started)
            yield
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self._free += pixels
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            pixels, admitted = self._waiting.popleft()
            self._free -= pixels
            if not admitted.done():  # a cancelled caller frees its pixels in `hold`
                admitted.set_result(None)
