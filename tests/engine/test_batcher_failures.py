import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

import pytest

from posewire.engine.pool import ThreadPool
from posewire.errors import BadParameter, DeadlineExceeded, Draining, InferenceFailed
from tests.pipeline.doubling import Doubler, Numbers, Tally, begin, give_up, outputs, serving

pytestmark = pytest.mark.usefixtures("no_endless_loop")


async def test_a_batch_that_raises_fails_its_own_members_only() -> None:
    model, tally = Doubler(held=True), Tally()
    async with serving(model, max_batch=2, tally=tally) as batcher:
        calls = await begin(outputs(batcher, 1))
        await model.running()
        calls += await begin(*(outputs(batcher, item) for item in (-2, 3, 4, 5)))
        model.gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert model.batches == [[1], [-2, 3], [4, 5]]
    assert [type(answer) for answer in answers] == [list, InferenceFailed, InferenceFailed, list, list]
    assert not any("secret" in str(answer) for answer in answers)
    assert tally.failures == 1


@pytest.mark.parametrize("error", [ValueError, MemoryError, StopIteration, SystemExit, asyncio.CancelledError])
async def test_whatever_a_model_raises_is_heard_and_the_next_batch_works(error: Callable[[], BaseException]) -> None:
    async with serving(Doubler(error=error)) as batcher:
        with pytest.raises(InferenceFailed):
            await asyncio.wait_for(outputs(batcher, -1, 1), 5)
        assert await outputs(batcher, 7) == [14]


async def test_an_error_with_an_answer_of_its_own_passes_through() -> None:
    error = BadParameter("not that one")
    async with serving(Doubler(error=lambda: error)) as batcher:
        with pytest.raises(BadParameter) as caught:
            await outputs(batcher, -1)
    assert caught.value is error


@pytest.mark.parametrize("wrong", [[], [1], [1, 2, 3]])
async def test_a_wrong_number_of_outputs_fails_the_batch(wrong: list[int]) -> None:
    async with serving(lambda items: wrong if len(items) == 2 else items) as batcher:
        with pytest.raises(InferenceFailed):
            await outputs(batcher, 1, 2)
        assert await outputs(batcher, 3) == [3]


async def test_the_rest_of_a_caller_whose_item_failed_is_not_run() -> None:
    model, told = Doubler(), threading.Event()

    def runs(items: Sequence[int]) -> list[int]:
        if min(items) >= 0:  # what was handed over already waits until the caller knows: a slow machine would get through more of it
            assert told.wait(20), "the caller was not told"
        return model(items)

    async with serving(runs, max_batch=1) as batcher:
        with pytest.raises(InferenceFailed):
            await outputs(batcher, -1, *range(20))
        told.set()
        assert await outputs(batcher, 100) == [200]
    assert len(model.batches) < 5


async def test_cancelled_and_expired_items_are_never_run() -> None:
    model = Doubler(held=True)
    soon = asyncio.get_running_loop().time() + 0.01
    async with serving(model) as batcher:
        [running] = await begin(outputs(batcher, 1))
        await model.running()
        gone, expired, stays = await begin(outputs(batcher, 2, 3), outputs(batcher, 4, deadline=soon), outputs(batcher, 5))
        await give_up(gone)
        with pytest.raises(DeadlineExceeded):
            await expired
        assert not running.done()  # the model is still held: the answer did not wait for it
        model.gate.set()
        assert [await running, await stays] == [[2], [10]]
    assert model.batches == [[1], [5]]


async def test_when_all_that_waited_have_gone_the_loop_waits_for_the_next() -> None:
    model = Doubler(held=True)
    async with serving(model) as batcher:
        [running] = await begin(outputs(batcher, 1))
        await model.running()
        await give_up(*await begin(outputs(batcher, 2), outputs(batcher, 3)))
        model.gate.set()
        assert await running == [2]
        assert await outputs(batcher, 4) == [8]
    assert model.batches == [[1], [4]]


async def test_with_a_window_those_who_went_leave_no_trace() -> None:
    model = Doubler()
    async with serving(model, max_batch=2, max_wait=3600) as batcher:
        await give_up(*await begin(outputs(batcher, 1)))
        calls = await begin(outputs(batcher, 2), outputs(batcher, 3))
        assert await asyncio.gather(*calls) == [[4], [6]]
    assert model.batches == [[2, 3]]


async def test_a_deadline_that_has_passed_costs_no_run() -> None:
    model = Doubler()
    async with serving(model) as batcher:
        with pytest.raises(DeadlineExceeded):
            await outputs(batcher, 1, deadline=asyncio.get_running_loop().time() - 1)
        assert await outputs(batcher, 2) == [4]
    assert model.batches == [[2]]


async def test_a_deadline_that_passes_in_the_model_is_told_at_once() -> None:
    model = Doubler(held=True)
    async with serving(model) as batcher:
        with pytest.raises(DeadlineExceeded):
            await outputs(batcher, 1, deadline=asyncio.get_running_loop().time() + 0.01)
        assert not model.gate.is_set()
        model.gate.set()
        assert await outputs(batcher, 2) == [4]


async def test_those_who_went_leave_their_places() -> None:
    model = Doubler(held=True)
    async with serving(model, max_queue=3, max_batch=8) as batcher:
        calls = await begin(outputs(batcher, 0))
        await model.running()
        for _ in range(5):
            await give_up(*await begin(outputs(batcher, 1), outputs(batcher, 2, 3)))
        calls += await begin(outputs(batcher, 4, 5, 6))
        model.gate.set()
        assert await asyncio.gather(*calls) == [[0], [8, 10, 12]]
        assert await outputs(batcher, 7, 8, 9) == [14, 16, 18]


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    model = Doubler(held=True)
    async with serving(model, max_batch=1) as batcher:
        calls = await begin(outputs(batcher, 1), outputs(batcher, 2), outputs(batcher, 3))
        await model.running()
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await outputs(batcher, 4)
        assert not closing.done()
        model.gate.set()
        assert await asyncio.gather(*calls) == [[2], [4], [6]]
        await closing
        assert not batcher.alive
    assert model.batches == [[1], [2], [3]]


async def test_closing_waits_for_the_window_and_for_the_run() -> None:
    model = Doubler(held=True)
    async with serving(model, max_wait=0.01) as batcher:
        [call] = await begin(outputs(batcher, 1))
        closing = asyncio.create_task(batcher.close())
        await model.running()
        assert not closing.done()
        model.gate.set()
        assert await call == [2]
        await closing


async def test_closing_waits_for_a_run_whose_caller_has_gone() -> None:
    model = Doubler(held=True)
    async with serving(model) as batcher:
        calls = await begin(outputs(batcher, 1))
        await model.running()
        await give_up(*calls)
        closing = asyncio.create_task(batcher.close())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not closing.done()
        model.gate.set()
        await closing


async def test_a_queue_that_was_never_started_refuses_and_closes() -> None:
    pool = ThreadPool(1)
    batcher = Numbers("numbers", Doubler(), pool, max_queue=1, observer=Tally())
    assert not batcher.alive
    with pytest.raises(InferenceFailed):
        await outputs(batcher, 1)
    await batcher.close()
    await pool.close()


async def test_when_no_batch_can_be_formed_any_more_nobody_is_left_waiting_and_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ThreadPool):
        asked = 0

        def ask(self, turn: Callable[[], None], full: Callable[[], bool] = lambda: False) -> None:
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("no thread for you")
            super().ask(turn, full)

    model = Doubler(held=True)
    async with serving(model, max_batch=1, pool=Broken(1)) as batcher:
        [running] = await begin(outputs(batcher, 1))
        await model.running()
        [queued] = await begin(outputs(batcher, 2, 3))
        with pytest.raises(InferenceFailed):
            await queued
        assert not batcher.alive
        with pytest.raises(InferenceFailed):
            await outputs(batcher, 4)
        model.gate.set()
        assert await running == [2]
    assert model.batches == [[1]]
    assert [record.levelno for record in caplog.records if "numbers" in record.message] == [logging.CRITICAL]


class Refusing(Tally):
    """An observer that breaks at one of its calls."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at

    def _note(self, call: str) -> None:
        if call == self._at:
            raise RuntimeError("cannot count")

    def started(self, size: int) -> None:
        self._note("started")

    def waited(self, seconds: float) -> None:
        self._note("waited")

    def failed(self) -> None:
        self._note("failed")


@pytest.mark.parametrize("at", ["started", "waited", "failed"])
async def test_an_observer_that_breaks_keeps_nobody_waiting(at: str) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the loop would log the observer's error
    async with serving(Doubler(), tally=Refusing(at)) as batcher:
        for items in ((1, 2), (-1, 2), (3,)):
            answers = await asyncio.wait_for(asyncio.gather(outputs(batcher, *items), return_exceptions=True), 5)
            failed = at == "started" or min(items) < 0
            assert isinstance(answers[0], InferenceFailed) if failed else answers[0] == [2 * item for item in items]
