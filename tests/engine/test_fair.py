"""The order of what waits."""

from itertools import islice

from posewire.engine.fair_queue import FairQueue
from posewire.types import Priority


def drain(queue: FairQueue[str], most: int = 1000) -> str:
    """What comes, in order, until the queue is empty or `most` came."""
    return "".join(islice(iter(lambda: queue.pop() if queue else None, None), most))


def queue_of(*lines: str, priority: Priority = Priority.BULK) -> FairQueue[str]:
    queue = FairQueue[str](1000)
    for line in lines:
        queue.push(line, priority)
    return queue


def test_small_callers_are_served_whole_first_come_first_served() -> None:
    assert drain(queue_of("aaa", "b", "cc", "dddd")) == "aaabccdddd"


def test_a_crowd_gives_way_to_everyone_else_each_turn() -> None:
    assert drain(queue_of("a" * 50, "b", "c" * 6, "d")).startswith("aaaabccccdaaaaccaaaa")


def test_who_comes_behind_a_crowd_waits_for_one_turn_of_it_only() -> None:
    queue = queue_of("a" * 50)
    assert drain(queue, 10) == "a" * 10
    queue.push("b", Priority.BULK)
    assert "b" in drain(queue, 5)


def test_everything_comes_once() -> None:
    lines = [chr(ord("a") + i) * (i * 7 % 11 + 1) for i in range(26)]
    queue = queue_of(*lines)
    assert len(queue) == sum(map(len, lines))
    assert sorted(drain(queue)) == sorted("".join(lines))
    assert len(queue) == 0


def test_streams_go_first_and_bulk_keeps_a_share() -> None:
    queue = queue_of(*"b" * 3)
    for _ in range(12):
        queue.push("s", Priority.STREAM)
    assert drain(queue) == "sssbsssbsssbsss"


def test_what_streams_had_while_bulk_was_away_is_not_held_against_them() -> None:
    queue = queue_of(*"s" * 20, priority=Priority.STREAM)
    assert drain(queue, 10) == "s" * 10
    queue.push("bb", Priority.BULK)
    assert drain(queue, 8) == "sssbsssb"


def test_who_leaves_takes_only_what_is_theirs() -> None:
    queue = queue_of("aaaaaaaaaa", "b")
    line = queue.push("cccccc", Priority.STREAM)
    assert drain(queue, 2) == "cc"
    queue.leave(line)
    queue.leave(line)  # nothing more to take
    assert len(queue) == 11
    assert sorted(queue) == sorted("a" * 10 + "b")
    assert drain(queue) == "aaaabaaaaaa"
    queue.leave(line)
    assert len(queue) == 0
