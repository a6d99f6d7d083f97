"""Runs in processes of their own: what they give, how they fail, and that they end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from posewire.engine.ipc import AVAILABLE
from posewire.engine.process_pool import ProcessPool
from posewire.errors import BadPicture, InferenceFailed
from tests.engine import odd_jobs

pytestmark = [pytest.mark.skipif(not AVAILABLE, reason="needs Linux's memory files"), pytest.mark.usefixtures("no_endless_loop")]


@asynccontextmanager
async def started(workers: int = 1, died: Callable[[], None] = lambda: None, timeout_s: float = 10.0) -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(workers, odd_jobs.begin, died, timeout_s=timeout_s)
    await pool.start()
    try:
        async with asyncio.timeout(120):
            yield pool
    finally:
        await pool.close()


async def ran(pool: ProcessPool, function: Callable[[Sequence[Any]], Sequence[Any]], *items: Any) -> list[Any]:
    return list((await pool.run(function, lambda: items)).outputs)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of other processes nothing tells
        await asyncio.sleep(0.01)


async def test_each_process_is_begun_once_and_is_another() -> None:
    pool = ProcessPool(2, odd_jobs.begin)
    begun = await pool.start()
    assert sorted(begun) == sorted(pool.pids)
    assert len({*begun, os.getpid()}) == 3
    assert pool.ready
    await pool.close()
    assert not any(psutil.pid_exists(pid) for pid in begun)
    assert not pool.ready


@pytest.mark.parametrize("shape", [(0,), (3,), (500,), (400, 300, 3), (3000, 2000, 3)])
async def test_arrays_of_every_size_go_there_and_back(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    async with started() as pool:
        for _ in range(3):  # a memory file that is used again holds nothing of before
            [negative, small] = await ran(pool, odd_jobs.negate, array, array[:2])
            np.testing.assert_array_equal(negative, 255 - array)
            np.testing.assert_array_equal(small, 255 - array[:2])
            array = array[: max(1, len(array) // 2)]


async def test_many_arrays_in_one_batch() -> None:
    arrays = [np.full((40, 50), number % 256, np.uint8) for number in range(1200)]
    async with started() as pool:
        answers = await ran(pool, odd_jobs.negate, *arrays)
    assert [int(answer[0, 0]) for answer in answers] == [255 - number % 256 for number in range(1200)]


async def test_what_fails_alone_and_what_fails_together() -> None:
    async with started() as pool:
        one, two = await ran(pool, odd_jobs.double, 4, -1)
        assert one == 8
        assert isinstance(two, BadPicture)
        assert (two.detail, two.image) == ("it is negative", 3)
        with pytest.raises(RuntimeError, match="inner secret"):
            await ran(pool, odd_jobs.fail, 1)
        assert await ran(pool, odd_jobs.double, 5) == [10]


async def test_a_free_process_takes_what_a_busy_one_would_keep_waiting(tmp_path: Path) -> None:
    async with started(2) as pool:
        held = asyncio.create_task(ran(pool, odd_jobs.wait_for, tmp_path / "held"))
        await until(lambda: (tmp_path / "held").exists() and (tmp_path / "held").read_text() != "")
        busy = int((tmp_path / "held").read_text())
        [free] = set(pool.pids) - {busy}
        for _ in range(5):
            assert await ran(pool, odd_jobs.who, None) == [free]
        (tmp_path / "held.go").touch()
        assert await held == [busy]


async def test_a_process_that_dies_fails_its_batch_alone_and_is_replaced(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    deaths: list[None] = []
    async with started(2, lambda: deaths.append(None)) as pool:
        before = set(pool.pids)
        held = asyncio.create_task(ran(pool, odd_jobs.wait_for, tmp_path / "held"))
        await until((tmp_path / "held").exists)
        with pytest.raises(InferenceFailed, match="died"):
            await ran(pool, odd_jobs.die, 1)
        (tmp_path / "held.go").touch()
        [survivor] = await held
        await until(lambda: len(pool.pids) == 2 and bool(deaths))
        assert len(set(pool.pids) & before) == 1
        assert survivor in pool.pids
        assert await ran(pool, odd_jobs.double, 1, 2, 3) == [2, 4, 6]
    assert len(deaths) == 1
    assert [record.levelname for record in caplog.records if "has died" in record.message] == ["ERROR"]


async def test_a_process_that_dies_idle_is_replaced() -> None:
    async with started() as pool:
        [first] = pool.pids
        os.kill(first, signal.SIGKILL)
        await until(lambda: pool.pids not in ([], [first]) and pool.ready)
        assert await ran(pool, odd_jobs.who, None) == pool.pids


async def test_signals_that_a_manager_sends_to_all_end_no_process() -> None:
    async with started() as pool:
        [pid] = pool.pids
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert await ran(pool, odd_jobs.who, None) == [pid]


async def test_where_a_process_cannot_begin_the_cause_is_raised_and_none_is_left() -> None:
    pool = ProcessPool(2, odd_jobs.begin_badly)
    with pytest.raises(ValueError, match="no models here"):
        await pool.start()
    assert pool.pids == []


async def test_close_lets_the_processes_finish(tmp_path: Path) -> None:
    async with started() as pool:
        held = asyncio.create_task(ran(pool, odd_jobs.wait_for, tmp_path / "held"))
        await until((tmp_path / "held").exists)
        [pid] = pool.pids
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0)
        (tmp_path / "held.go").touch()
        assert await held == [pid]
        await closing
        assert not psutil.pid_exists(pid)


async def test_what_a_dying_process_had_just_taken_is_not_lost() -> None:
    async with started(2) as pool:
        for _ in range(3):
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)  # it may still take what comes now
            answers = await asyncio.gather(*[ran(pool, odd_jobs.double, number) for number in range(6)], return_exceptions=True)
            for number, answer in enumerate(answers):
                assert answer == [2 * number] or isinstance(answer, InferenceFailed)
            await until(lambda: pool.ready and len(pool.pids) == 2)
