"""Proves from what was written, sent and received that no message was lost.

The spool of a sink numbers its messages: the id is NAME-NUMBER, and a number is given out once and for all. The last number that was given
out is in the file of the spool. So the numbers that a receiver has must be 1 to the last one, without a gap and in order, and a number that
it has twice must say so. What was put into the spools at all is compared with the lines of the file sink: a message has the same moment and
the same body in every sink.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of the messages of one sink."""

    put: int  # into the spool
    waiting: int  # in it at the end
    received: int  # different ones
    repeated: int  # deliveries of a message that had arrived
    unmarked: int  # of them, those whose attempt does not count up, and which MQTT does not mark as a repetition of the broker's
    out_of_order: int
    missing: int  # numbers that neither arrived nor wait
    beside_file: int  # messages that the file sink has and this one has not, or the other way round

    def holds(self, tolerated: int) -> bool:
        """Return whether nothing was lost.

        Args:
            tolerated: messages that some sinks have and others not: the one that was being handed out when the process was killed.
        """
        return not (self.waiting or self.unmarked or self.out_of_order or self.missing) and self.beside_file <= tolerated


def prove(deliveries: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]], put: int, waiting: Sequence[int]) -> Proof:
    """Compare what arrived with what was put and with what the file has.

    Args:
        deliveries: in the order of their arrival; with `dup`, MQTT's mark of a message that the broker sends again, if there is one.
        lines: of the file sink with the same kinds of messages.
        put: the last number that the spool gave out.
        waiting: numbers in the spool at the end.
    """
    attempts: dict[int, int] = {}
    contents: list[str] = []
    repeated = unmarked = out_of_order = 0
    newest = 0
    for delivery in deliveries:
        number, attempt = int(delivery["id"].rpartition("-")[2]), int(delivery["attempt"])
        if number in attempts:
            repeated += 1
            unmarked += attempt <= attempts[number] and not delivery.get("dup", False)
            attempts[number] = max(attempt, attempts[number])
            continue
        out_of_order += number < newest
        newest = max(newest, number)
        attempts[number] = attempt
        contents.append(content(delivery))
    missing = len(set(range(1, put + 1)) - attempts.keys() - set(waiting))
    return Proof(
        put=put,
        waiting=len(waiting),
        received=len(attempts),
        repeated=repeated,
        unmarked=unmarked,
        out_of_order=out_of_order,
        missing=missing,
        beside_file=len(set(contents) ^ {content(line) for line in lines}),
    )


def content(delivery: Mapping[str, Any]) -> str:
    """Return what a message has in common in all sinks."""
    return json.dumps([delivery["time"], delivery["kind"], delivery["message"]], sort_keys=True)


def spool_state(path: Path) -> tuple[int, list[int]]:
    """Return the last number that a spool has given out, and the numbers that wait in it. No service may use it."""
    with closing(sqlite3.connect(path)) as database:
        put = database.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'messages'").fetchone()[0]
        return int(put), [int(number) for (number,) in database.execute("SELECT number FROM messages")]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file sink; a kill may have cut one."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
