"""Processes that do not come back: stopped by a signal, or never done with a batch. They are replaced, and nobody else's batch is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from posewire.engine.ipc import AVAILABLE
from posewire.engine.process_pool import ProcessPool
from posewire.errors import BadPicture, DeadlineExceeded, InferenceFailed
from tests.engine import odd_jobs
from tests.engine.test_processes import ran, started, until

pytestmark = [pytest.mark.skipif(not AVAILABLE, reason="needs Linux's memory files"), pytest.mark.usefixtures("no_endless_loop")]


def begin(pool: ProcessPool, function: Callable[[Sequence[Any]], Sequence[Any]], *items: Any, within_s: float) -> asyncio.Task[Any]:
    """A batch with a deadline."""
    return asyncio.create_task(pool.run(function, lambda: items, time.monotonic() + within_s))


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Stop processes; those that are still there in the end go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)


async def all_replaced(pool: ProcessPool, before: Sequence[int]) -> None:
    await until(lambda: len(pool.pids) == len(before) and not set(pool.pids) & set(before) and pool.ready)


async def test_a_stopped_process_is_replaced_and_the_other_one_goes_on() -> None:
    deaths: list[None] = []
    async with started(2, lambda: deaths.append(None)) as pool:
        first, second = pool.pids
        with stopped(first):
            for number in range(5):
                assert await ran(pool, odd_jobs.double, number) == [2 * number]
            assert pool.ready
            await until(lambda: len(pool.pids) == 2 and first not in pool.pids)
        assert second in pool.pids
        assert len(deaths) == 1


async def test_while_all_are_stopped_the_pool_is_not_ready_and_what_waits_is_answered_later() -> None:
    async with started(2) as pool:
        before = pool.pids
        with stopped(*before):
            await until(lambda: not pool.ready)
            waiting = [asyncio.create_task(ran(pool, odd_jobs.double, number)) for number in range(6)]
            await all_replaced(pool, before)
            assert await asyncio.gather(*waiting) == [[2 * number] for number in range(6)]
        assert not any(psutil.pid_exists(pid) for pid in before)


async def test_a_process_that_goes_on_in_time_is_kept() -> None:
    async with started() as pool:
        before = pool.pids
        with stopped(*before):
            await until(lambda: not pool.ready)
        await until(lambda: pool.ready)
        assert await ran(pool, odd_jobs.who, None) == before


async def test_a_process_that_is_stopped_in_a_batch_loses_that_one_alone(tmp_path: Path) -> None:
    async with started() as pool:
        before = pool.pids
        held = asyncio.create_task(ran(pool, odd_jobs.wait_for, tmp_path / "held"))
        await until((tmp_path / "held").exists)
        behind = asyncio.create_task(ran(pool, odd_jobs.double, 4))
        with stopped(*before):
            with pytest.raises(InferenceFailed, match="try again"):
                await held
            assert await behind == [8]
        await all_replaced(pool, before)


async def test_batches_that_never_end_are_given_up_and_not_run_again(tmp_path: Path) -> None:
    async with started(2, timeout_s=0.3) as pool:
        before = pool.pids
        runs = [tmp_path / "with a deadline", tmp_path / "without one"]
        endless = [
            begin(pool, odd_jobs.never_end, runs[0], within_s=0.3),
            asyncio.create_task(ran(pool, odd_jobs.never_end, runs[1])),
        ]
        await until(lambda: all(path.exists() for path in runs))
        good = [asyncio.create_task(ran(pool, odd_jobs.double, number)) for number in range(6)]
        await until(lambda: not pool.ready)
        for task in endless:
            with pytest.raises(DeadlineExceeded):
                await task
        assert await asyncio.gather(*good) == [[2 * number] for number in range(6)]
        await all_replaced(pool, before)
        assert [path.read_text() for path in runs] == ["x", "x"]


async def test_a_callers_short_deadline_ends_no_process(tmp_path: Path) -> None:
    async with started() as pool:
        before = pool.pids
        held = begin(pool, odd_jobs.wait_for, tmp_path / "held", within_s=0.0)
        await until((tmp_path / "held").exists)
        for _ in range(100):
            assert pool.ready
            await asyncio.sleep(0.01)
        (tmp_path / "held.go").touch()
        assert (await held).outputs == before


async def test_a_process_that_uses_up_its_cpu_budget_is_ended_and_replaced() -> None:
    async with started() as pool:
        before = pool.pids
        assert (await ran(pool, odd_jobs.burn, 0.01, 0.01)) != []
        with pytest.raises(BadPicture, match="too long to decode"):
            await ran(pool, odd_jobs.burn, 60.0)
        await all_replaced(pool, before)
        assert await ran(pool, odd_jobs.burn_later, 0.3) == [0.3]  # what is left of a budget ends nothing later


async def test_a_process_that_never_begins_is_ended() -> None:
    pool = ProcessPool(2, odd_jobs.begin_never, start_s=0.5)
    with pytest.raises(InferenceFailed, match=r"not ready within 0\.5 seconds"):
        await pool.start()
    assert pool.pids == []


async def test_a_replacement_that_is_stuck_at_its_start_is_replaced_too(tmp_path: Path) -> None:
    pool = ProcessPool(1, partial(odd_jobs.begin_stopped_at_second, tmp_path / "starts"))
    await pool.start()
    os.kill(pool.pids[0], signal.SIGKILL)
    await until(lambda: not pool.ready)
    await until(lambda: pool.ready)
    assert (tmp_path / "starts").read_text() == "xxx"
    await pool.close()


async def test_close_waits_for_no_process_that_is_stuck(tmp_path: Path) -> None:
    pool = ProcessPool(2, odd_jobs.begin)
    pids = await pool.start()
    running = begin(pool, odd_jobs.never_end, tmp_path / "runs", within_s=60)
    await until((tmp_path / "runs").exists)
    with stopped(pids[0]):  # perhaps the one that runs
        async with asyncio.timeout(10):
            await pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(InferenceFailed, match="stopping"):
        await running


async def test_a_process_that_is_out_of_memory_fails_that_batch_alone() -> None:
    async with started() as pool:
        before = pool.pids
        with pytest.raises(MemoryError):
            await ran(pool, odd_jobs.allocate, 1 << 46)
        assert await ran(pool, odd_jobs.allocate, 10) == [10]
        assert pool.pids == before
