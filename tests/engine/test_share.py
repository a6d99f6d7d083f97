from posewire.engine.cost_model import CostTable
from posewire.engine.share import OwnShare


def test_the_share_is_that_of_the_pictures_of_late() -> None:
    now = 5.0

    def clock() -> float:
        return now

    share = OwnShare(clock)
    told = []
    for picture in range(1024):
        now += 0.001 if picture < 512 else 0.004
        told.append(share.count())
    assert [None if s is None else round(s, 6) for s in told if s is not None] == [0.001, 0.001, 0.004, 0.004]


def test_pictures_go_together_where_the_way_costs_much() -> None:
    measured = CostTable({1: 3.6e-3, 2: 7.2e-3, 4: 14.4e-3}, {3: 1})
    alone = measured.more(an_item=3e-3, a_run=0.2e-3)
    together = measured.more(an_item=3e-3, a_run=1.2e-3)
    assert [alone.take(n, 2) for n in (1, 2, 4, 12)] == [1, 1, 1, 1]
    assert [together.take(n, 2) for n in (1, 2, 4, 12)] == [1, 1, 2, 2]
    assert together.padding == {3: 1}
    assert together.seconds[2] == 7.2e-3 + 2 * 3e-3 + 1.2e-3
