"""What follows an item's run, on the thread that ran it."""

import asyncio
import threading

import pytest

from posewire.errors import BadParameter, InferenceFailed
from tests.inference.doubling import Doubler, Tally, begin, outputs, serving

pytestmark = pytest.mark.usefixtures("no_endless_loop")


async def test_what_follows_is_answered_and_runs_where_the_model_ran() -> None:
    async with serving(Doubler()) as batcher:
        served = await batcher.submit([1, 2], lambda doubled: (doubled + 1, threading.current_thread().name))
    assert [item.output[0] for item in served] == [3, 5]
    assert all(item.output[1].startswith("posewire-model") for item in served)


@pytest.mark.parametrize("error", [ValueError("inner secret"), StopIteration(), BadParameter("not that one")])
async def test_what_follows_fails_for_its_own_caller_only(error: Exception) -> None:
    def fail(_: int) -> int:
        raise error

    async def call() -> list[int]:
        return [served.output for served in await batcher.submit([2], fail)]

    model, tally = Doubler(held=True), Tally()
    async with serving(model, max_batch=3, tally=tally) as batcher:
        first = await begin(outputs(batcher, 0))
        await model.running()
        calls = await begin(outputs(batcher, 1), call(), outputs(batcher, 3))
        model.gate.set()
        _, one, failed, three = await asyncio.gather(*first, *calls, return_exceptions=True)
    assert model.batches == [[0], [1, 2, 3]]
    assert (one, three) == ([2], [6])
    assert isinstance(failed, BadParameter if isinstance(error, BadParameter) else InferenceFailed)
    assert "secret" not in str(failed)
    assert tally.failures == 0
