"""What is measured at start, on machines whose costs are made up."""

import threading
from collections.abc import Callable

import pytest

from posewire.engine.cost_model import CostTable
from posewire.engine.pool import ThreadPool
from posewire.engine.profiler import measure


class Machine:
    """One worker and a clock that only runs move.

    Args:
        whole: seconds of one run of a size.
        dear: seconds more of the first run of a size.
        wholes: whether sizes above 1 can be opened.
    """

    def __init__(self, whole: Callable[[int], float], *, dear: float = 0.0, wholes: bool = True) -> None:
        self.now = 0.0
        self.opened = {1}
        self.ran: set[int] = set()
        self._whole = whole
        self._dear = dear
        self._wholes = wholes

    def open_size(self, size: int) -> bool:
        if self._wholes:
            self.opened.add(size)
        return self._wholes

    def close_size(self, size: int) -> None:
        self.opened.discard(size)

    def padding(self, items: int) -> int:
        return int(items == 3)

    def run(self, items: int) -> None:
        while items:
            size = max(size for size in self.opened if size <= items)
            self.now += self._whole(size) + (0 if size in self.ran else self._dear)
            self.ran.add(size)
            items -= size

    def clock(self) -> float:
        return self.now


async def measured(machine: Machine, most: int = 16) -> CostTable:
    pool = ThreadPool(1)
    costs = await measure(machine.run, machine, pool, most, machine.clock)
    await pool.close()
    return costs


async def test_where_a_batch_costs_what_one_costs_all_sizes_are_open_and_warm() -> None:
    machine = Machine(lambda size: 0.010 + 0.0001 * size, dear=3.0)
    costs = await measured(machine)
    assert machine.opened == machine.ran == {1, 2, 4, 8, 16}
    assert costs.seconds == pytest.approx({size: 0.010 + 0.0001 * size for size in (1, 2, 4, 8, 16)})
    assert costs.take(20, 1) == costs.full == 16
    assert costs.window(0.0001) > 0
    assert costs.padding == {3: 1}  # as the machine says


async def test_where_batches_leave_the_cache_items_run_alone() -> None:
    machine = Machine(lambda size: 0.004 * size * (1 + size / 8))
    costs = await measured(machine)
    assert machine.opened == {1}
    assert costs.take(20, 1) == costs.full == 1
    assert costs.window(0.0001) == 0


async def test_where_batches_pay_up_to_a_size_that_is_the_full_batch() -> None:
    each = {1: 3.5, 2: 2.9, 4: 2.6, 8: 2.8, 16: 3.2}
    machine = Machine(lambda size: each[size] * size / 1000)
    costs = await measured(machine)
    assert machine.opened >= {1, 2, 4}
    assert costs.full == 4
    assert costs.take(50, 1) == 4


async def test_sizes_in_which_nothing_is_gained_are_not_tried_further() -> None:
    machine = Machine(lambda size: 0.004 * size)
    costs = await measured(machine, most=256)
    assert max(machine.ran) == 4
    assert max(costs.seconds) == 2


async def test_a_model_of_single_items_is_measured_in_pieces() -> None:
    machine = Machine(lambda size: 0.004 * size, wholes=False)
    costs = await measured(machine)
    assert machine.ran == {1}
    assert costs.full == 1
    assert costs.seconds[1] == pytest.approx(0.004)


async def test_the_largest_size_is_what_the_operator_allows() -> None:
    machine = Machine(lambda size: 0.010)
    assert (await measured(machine, most=6)).full == 6
    assert machine.opened == {1, 2, 4, 6}


async def test_a_slow_model_is_measured_by_a_few_runs() -> None:
    machine = Machine(lambda size: 1.0 * size)
    await measured(machine, most=1)
    assert machine.now <= 5


async def test_every_worker_is_busy_while_it_is_measured() -> None:
    pool = ThreadPool(3)
    at_once = Together(3)
    costs = await measure(at_once.run, Machine(lambda _: 1.0), pool, 1)
    await pool.close()
    assert costs.seconds[1] > 0


class Together:
    """A run that ends when so many are under way."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)

    def run(self, _: int) -> None:
        self._barrier.wait(20)
