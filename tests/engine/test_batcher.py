import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import chain

import pytest

from posewire.engine.pool import ThreadPool
from posewire.errors import Overloaded
from tests.pipeline.doubling import Doubler, Tally, begin, outputs, serving

pytestmark = pytest.mark.usefixtures("no_endless_loop")


@pytest.mark.parametrize(("workers", "max_batch", "max_wait"), [(1, 4, 0.0), (4, 3, 0.0), (3, 8, 0.002), (2, 1, 0.0)])
@pytest.mark.parametrize("seed", range(3))
async def test_everyone_gets_their_own_outputs(workers: int, max_batch: int, max_wait: float, seed: int) -> None:
    chance = random.Random(seed)
    model, tally = Doubler(), Tally()

    async def call(items: list[int], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await outputs(batcher, *items) == [2 * item for item in items]

    async with serving(model, pool=ThreadPool(workers), max_batch=max_batch, max_queue=300, max_wait=max_wait, tally=tally) as batcher:
        numbers = iter(range(300))
        calls = [[next(numbers) for _ in range(chance.randint(0, 5))] for _ in range(60)]
        await asyncio.gather(*(call(items, chance.randrange(20)) for items in calls))
    assert sorted(chain(*model.batches)) == sorted(chain(*calls))
    assert max(map(len, model.batches)) <= max_batch
    assert sorted(tally.sizes) == sorted(map(len, model.batches))
    assert len(tally.waits) == sum(map(len, calls))
    assert tally.failures == 0


async def test_batches_form_while_the_model_is_busy_up_to_their_limit() -> None:
    model = Doubler(held=True)
    async with serving(model, max_batch=4) as batcher:
        first = await begin(outputs(batcher, 0))
        await model.running()
        rest = await begin(*(outputs(batcher, item) for item in range(1, 11)))
        model.gate.set()
        assert await asyncio.gather(*first, *rest) == [[2 * item] for item in range(11)]
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


@pytest.mark.parametrize(
    ("workers", "items", "sizes"), [(2, 6, [3, 3]), (4, 4, [1, 1, 1, 1]), (3, 7, [3, 2, 1]), (2, 1, [1]), (2, 20, [8, 6])]
)
async def test_every_thread_has_its_share_of_what_waits(workers: int, items: int, sizes: list[int]) -> None:
    model = Doubler(held=True)
    async with serving(model, pool=ThreadPool(workers), max_batch=8) as batcher:
        [call] = await begin(outputs(batcher, *range(items)))
        begun = [await model.running() for _ in sizes]  # side by side: none of them can end
        assert sorted(map(len, begun), reverse=True) == sizes
        model.gate.set()
        await call


async def test_with_a_window_a_batch_waits_for_company_and_starts_when_it_is_full() -> None:
    model = Doubler()
    async with serving(model, max_batch=3, max_wait=3600) as batcher:
        first = await begin(outputs(batcher, 1), outputs(batcher, 2))
        for _ in range(20):
            await asyncio.sleep(0)
        assert model.batches == []
        assert await outputs(batcher, 3) == [6]
        assert await asyncio.gather(*first) == [[2], [4]]
        second = await begin(outputs(batcher, 4))
        for _ in range(20):
            await asyncio.sleep(0)
        assert model.batches == [[1, 2, 3]]
        assert await outputs(batcher, 5, 6) == [10, 12]
        await asyncio.gather(*second)
    assert model.batches == [[1, 2, 3], [4, 5, 6]]


async def test_with_a_window_a_batch_starts_in_time_without_company() -> None:
    model = Doubler()
    async with serving(model, max_batch=3, max_wait=0.01) as batcher:
        assert await outputs(batcher, 1) == [2]
        assert await outputs(batcher, 2) == [4]


async def test_what_one_item_took_is_told() -> None:
    async with serving(Doubler(), max_batch=3) as batcher:
        served = await batcher.submit([1, 2, 3])
    assert len({(item.started, item.ended) for item in served}) == 1
    assert all(item.ended >= item.started for item in served)
    assert min(item.waited for item in served) >= 0


async def test_two_batchers_on_one_thread_take_turns() -> None:
    order: list[str] = []
    model = Doubler(held=True)
    pool = ThreadPool(1)

    def noted(name: str) -> Callable[[Sequence[int]], Sequence[int]]:
        def run(items: Sequence[int]) -> Sequence[int]:
            order.append(name)
            return model(items)

        return run

    async with serving(noted("a"), pool=pool, max_batch=1) as a, serving(noted("b"), pool=pool, max_batch=1) as b:
        calls = await begin(outputs(a, *range(6)))
        await model.running()
        calls += await begin(outputs(b, *range(3)))
        for _ in range(5):
            await asyncio.sleep(0)
        model.gate.set()
        await asyncio.gather(*calls)
    assert "".join(order) == "aaabababa"  # the second had nobody to give way to


async def test_a_full_queue_takes_none() -> None:
    model = Doubler(held=True)
    async with serving(model, max_queue=4, max_batch=8) as batcher:
        calls = await begin(outputs(batcher, 0))
        await model.running()
        calls += await begin(outputs(batcher, 1, 2, 3))
        with pytest.raises(Overloaded) as refused:
            await outputs(batcher, 4, 5)
        assert refused.value.retry_after_s is not None
        calls += await begin(outputs(batcher, 6))
        model.gate.set()
        await asyncio.gather(*calls)
    assert model.batches == [[0], [1, 2, 3, 6]]
