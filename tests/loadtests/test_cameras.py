"""The proof that a soak of cameras gives, and its plan."""

from collections import Counter
from pathlib import Path
from typing import Any

from loadtests.cameras.plan import plan
from loadtests.cameras.proof import lines_of, prove, spool_state
from posewire.sinks.spool import Spool


def sent(*numbers: int, attempt: int = 1) -> list[dict[str, Any]]:
    return [{"id": f"spool-1-{n}", "attempt": attempt, "time": f"t{n}", "kind": "event", "message": {"track_id": n}} for n in numbers]


def test_all_in_order_is_proven() -> None:
    proof = prove(sent(1, 2, 3), sent(1, 2, 3), 3, [])
    assert proof.holds(0)
    assert (proof.received, proof.repeated) == (3, 0)


def test_a_gap_is_found_unless_the_message_waits() -> None:
    assert prove(sent(1, 3), sent(1, 2, 3), 3, []).missing == 1
    assert not prove(sent(1, 3), sent(1, 2, 3), 3, []).holds(1)
    waiting = prove(sent(1, 2), sent(1, 2, 3), 3, [3])
    assert (waiting.missing, waiting.waiting, waiting.holds(1)) == (0, 1, False)


def test_the_last_messages_are_missed_too() -> None:
    assert prove(sent(1, 2), sent(1, 2, 3), 3, []).missing == 1


def test_a_duplicate_must_be_marked() -> None:
    marked = prove([*sent(1, 2), *sent(2, attempt=2), *sent(3)], sent(1, 2, 3), 3, [])
    assert (marked.repeated, marked.unmarked, marked.holds(0)) == (1, 0, True)
    of_the_broker = prove([*sent(1, 2), *({**one, "dup": True} for one in sent(2))], sent(1, 2), 2, [])
    assert (of_the_broker.repeated, of_the_broker.unmarked, of_the_broker.holds(0)) == (1, 0, True)
    unmarked = prove([*sent(1, 2), *sent(2)], sent(1, 2), 2, [])
    assert (unmarked.unmarked, unmarked.holds(0)) == (1, False)


def test_a_wrong_order_is_found() -> None:
    assert prove(sent(2, 1), sent(1, 2), 2, []).out_of_order == 1


def test_what_the_file_has_and_the_sink_never_got_is_found() -> None:
    proof = prove(sent(1, 2), [*sent(1, 2), *sent(9)], 2, [])
    assert (proof.beside_file, proof.holds(0), proof.holds(1)) == (1, False, True)


def test_a_spool_tells_what_it_gave_out_and_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path)
    for body in (b"a", b"b", b"c"):
        spool.put(body)
    first = spool.first()
    assert first is not None
    spool.done(first)
    spool.close()
    assert spool_state(path) == (3, [2, 3])


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"id": "a"}\n{"id": "b\n{"id": "c"}\n')
    assert lines_of(tmp_path / "lines") == [{"id": "a"}, {"id": "c"}]


def test_half_an_hour_has_ten_five_and_two_faults_and_the_seed_decides() -> None:
    faults = plan(1800, 1)
    assert Counter(f.fault for f in faults) == {"source": 10, "broker": 5, "sigterm": 1, "kill -9": 1}
    assert plan(1800, 1) == faults != plan(1800, 2)
    starts = [f.at_s for f in faults]
    assert starts == sorted(starts)
    assert all(0 < f.at_s < f.at_s + f.away_s < 1800 for f in faults)
    assert [f.fault for f in plan(180, 1)].count("source") == 2
