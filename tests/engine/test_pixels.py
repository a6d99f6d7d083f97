"""How many pixels are in memory at a time."""

import asyncio

import pytest

from posewire.engine.memory_budget import PixelBudget


class Room:
    """Images that hold their pixels until they are told to go."""

    def __init__(self, limit: int) -> None:
        self.waits: list[float] = []  # seconds
        self.budget = PixelBudget(limit, self.waits.append)
        self.inside: list[str] = []
        self._go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, pixels: int) -> None:
        self._go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, pixels))
        await settle()

    async def go(self, name: str) -> None:
        self._go[name].set()
        await settle()

    async def give_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _hold(self, name: str, pixels: int) -> None:
        async with self.budget.hold(pixels):
            self.inside.append(name)
            try:
                await self._go[name].wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_images_wait_until_their_pixels_fit_in() -> None:
    room = Room(10)
    await room.come("a", 6)
    await room.come("b", 5)
    await room.come("c", 4)  # would fit, but not before b: else a large one never has its turn
    assert room.inside == ["a"]
    assert len(room.waits) == 1
    await room.go("a")
    assert room.inside == ["b", "c"]
    assert len(room.waits) == 3
    assert min(room.waits) >= 0


async def test_one_over_the_limit_goes_alone() -> None:
    room = Room(10)
    await room.come("a", 1)
    await room.come("b", 100)
    await room.come("c", 1)
    assert room.inside == ["a"]
    await room.go("a")
    assert room.inside == ["b"]
    await room.go("b")
    assert room.inside == ["c"]


@pytest.mark.parametrize("who", ["a", "b", "c"])
async def test_who_gives_up_makes_room(who: str) -> None:
    room = Room(10)
    for name, pixels in (("a", 6), ("b", 8), ("c", 8)):
        await room.come(name, pixels)
    await room.give_up(who)
    for name in ("a", "b", "c"):
        assert (name in room.inside) == (name != who and room.inside == [name])
        await room.go(name)
    assert room.inside == []
    await room.come("all", 10)
    assert room.inside == ["all"]


async def test_who_gives_up_at_the_moment_of_their_turn_makes_room() -> None:
    room = Room(10)
    async with room.budget.hold(10):
        await room.come("b", 10)
        await room.come("c", 10)
    room.tasks["b"].cancel()  # it is let in, but has not run yet
    await settle()
    assert room.inside == ["c"]
