"""A batch as a whole, and what comes back from Ray, without a cluster."""

import io
import itertools
import sys
from pathlib import Path

import pytest

from posewire.batch.batching import Batch, BatchOptions
from posewire.batch.items import Ended, Outcome
from posewire.batch.on_ray import Returned, run_on_ray
from posewire.batch.output import Output
from posewire.batch.saving import Pending
from posewire.batch.sources import Source
from posewire.batch.tally import Tally
from posewire.config import load_settings
from posewire.errors import NotInstalled, PosewireError
from tests.batch.made import a_failure, a_run, an_outcome


def test_without_ray_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_DATA_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")  # restored afterwards
    monkeypatch.setitem(sys.modules, "ray", None)
    options = BatchOptions((str(tmp_path / "a.jpg"),), str(tmp_path / "out"))
    with Batch.open(options, load_settings({}), io.BytesIO()) as batch, pytest.raises(NotInstalled, match=r"posewire\[ray\]"):
        run_on_ray(batch, "local", lambda _: None)


TODO = [Source("/a.tar", "tar", 100), Source("/b.jpg", "image", 10)]
BACK: list[Outcome | Ended] = [an_outcome("1"), a_failure("2"), Ended("/a.tar", 100, 2, 2, 0.0), an_outcome("b.jpg", source="/b.jpg")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_comes_back_in_any_order_and_twice_is_taken_once(tmp_path: Path, order: tuple[int, ...]) -> None:
    output, run = tmp_path / "out", a_run(form="ndjson")
    opened = Output(str(output), run)
    with opened.begin([]):
        tally = Tally(110.0)
        pending = Pending(opened, tally, lambda _: None, 100)
        returned = Returned(pending, TODO, ())
        for position, number in enumerate(order):
            if position < 3:
                returned.take(BACK[number])
                pending.take()()  # a shard at any point
        with pytest.raises(PosewireError, match="did not come back"):
            returned.check()
        for number in order:
            returned.take(BACK[number])
        returned.check()
        pending.take()()
        assert (tally.images, tally.failures) == (2, 1)
    later = Output(str(output), run)
    with later.begin([]):
        assert (later.images, later.failures) == (2, 1)
        assert later.is_complete(TODO[0])
