"""What follows from measured costs: sizes, shares and windows, for machines of every kind."""

import random

import pytest

from posewire.engine.cost_model import CostTable, buckets

SIZES = (1, 2, 4, 8, 16)
LOOP = CostTable({n: n * (1 + n / 10) for n in SIZES})  # as where the maps of a batch leave the cache
GPU = CostTable({n: 10 + 0.1 * n for n in SIZES})
LINEAR = CostTable({n: float(n) for n in SIZES})
FOURS = CostTable({1: 1, 2: 1.7, 4: 2.8, 8: 5.8, 16: 13})  # batches pay up to a size


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (16, SIZES), (20, (*SIZES, 20)), (256, (*SIZES, 32, 64, 128, 256))],
)
def test_the_sizes_are_powers_of_two_up_to_the_most(most: int, sizes: tuple[int, ...]) -> None:
    assert buckets(most) == sizes


@pytest.mark.parametrize(("table", "best"), [(LOOP, 1), (GPU, 16), (LINEAR, 1), (FOURS, 4), (CostTable.unknown(), 1)])
def test_a_full_batch_is_the_size_beyond_which_nothing_is_gained(table: CostTable, best: int) -> None:
    assert table.full == best


@pytest.mark.parametrize("waiting", [1, 2, 5, 16, 17, 100, 3200])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_where_batches_cost_more_items_run_alone(waiting: int, workers: int) -> None:
    assert LOOP.take(waiting, workers) == LINEAR.take(waiting, workers) == 1


@pytest.mark.parametrize(("waiting", "taken"), [(1, 1), (2, 2), (3, 3), (9, 9), (16, 16), (17, 16), (100, 16)])
def test_where_a_batch_costs_what_one_costs_all_that_wait_run_together(waiting: int, taken: int) -> None:
    assert GPU.take(waiting, 1) == taken


def test_idle_workers_share_where_it_ends_much_earlier_and_only_there() -> None:
    assert FOURS.take(8, 2) == 4
    assert FOURS.take(4, 2) == 2
    assert FOURS.take(2, 2) == 1
    assert FOURS.take(16, 8) == 2
    assert GPU.take(8, 2) == 8  # two halves would take as long, and both workers


def test_a_gain_within_the_noise_is_none() -> None:
    noisy = CostTable({1: 1.0, 2: 1.98, 4: 3.95, 8: 7.9})
    assert [noisy.take(n, 1) for n in (2, 4, 8, 50)] == [1, 1, 1, 1]


def test_what_is_planned_costs_little_more_than_the_best_there_is() -> None:
    chance = random.Random(5)
    for _ in range(30):
        growth = chance.uniform(0.3, 1.4)
        table = CostTable({n: n**growth * chance.uniform(0.95, 1.05) for n in SIZES})
        for items in (1, 3, 7, 16, 31, 60):
            spent, left = 0.0, items
            while left:
                taken = table.take(left, 1)
                assert 1 <= taken <= left
                spent += table.seconds[next(size for size in SIZES if size >= taken)]
                left -= taken
            cheapest = min(table.seconds[size] * -(-items // size) for size in SIZES)
            assert spent <= cheapest * 1.15


@pytest.mark.parametrize("table", [LOOP, LINEAR, CostTable.unknown(), CostTable({1: 1.0})])
def test_where_company_saves_nothing_nobody_waits_for_it(table: CostTable) -> None:
    assert table.window(0.0) == 0


def test_where_company_saves_one_waits_a_little_and_only_if_it_is_likely() -> None:
    assert GPU.window(0.1) == pytest.approx(1.01)  # a tenth of a lone run
    assert GPU.window(5.0) == 0
    assert CostTable({1: 1.0, 2: 1.95}).window(0.01) == pytest.approx(0.05)  # what a pair saves
