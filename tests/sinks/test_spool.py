import subprocess
import sys
from pathlib import Path

import pytest

from posewire.errors import PosewireError
from posewire.sinks.spool import Spool


def drain(spool: Spool) -> list[bytes]:
    found = []
    while (waiting := spool.first()) is not None:
        found.append(waiting.body)
        spool.done(waiting)
    return found


def test_messages_come_out_in_their_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "deep" / "spool.sqlite")
    for i in range(100):
        assert spool.put(b"%d" % i) == 0
    assert len(spool) == 100
    assert drain(spool) == [b"%d" % i for i in range(100)]
    assert len(spool) == 0
    spool.close()


def test_a_message_that_is_not_done_stays_first_and_counts_its_attempts(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite")
    spool.put(b"a")
    spool.put(b"b")
    first, again = spool.first(), spool.first()
    assert first is not None
    assert again is not None
    assert (first.body, first.attempts, again.body, again.attempts) == (b"a", 1, b"a", 2)
    assert first.message_id == again.message_id
    spool.close()


def test_above_its_limits_the_oldest_are_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", max_messages=3, max_bytes=10)
    assert [spool.put(body) for body in (b"a", b"b", b"c", b"d")] == [0, 0, 0, 1]
    assert spool.put(b"x" * 9) == 2  # "d" and it have 10 bytes
    assert spool.put(b"y" * 50) == 2  # alone it stays, though it is too large
    assert drain(spool) == [b"y" * 50]
    spool.close()


def test_a_message_that_was_dropped_while_it_was_on_its_way_is_done_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", max_messages=1)
    spool.put(b"a")
    on_its_way = spool.first()
    assert on_its_way is not None
    spool.put(b"b")
    spool.done(on_its_way)
    assert len(spool) == 1
    assert drain(spool) == [b"b"]
    spool.close()


def test_what_a_killed_process_left_is_there(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    program = (
        "import os, signal, sys; from pathlib import Path; from posewire.sinks.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "for i in range(50): spool.put(b'%d' % i)\n"
        "spool.first()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    spool = Spool(path)
    first = spool.first()
    assert first is not None
    assert (first.body, first.attempts) == (b"0", 2)  # the first attempt may have arrived
    assert drain(spool) == [b"%d" % i for i in range(50)]
    spool.close()


def test_identities_go_on_after_a_restart(tmp_path: Path) -> None:
    ids = set()
    for _ in range(3):
        spool = Spool(tmp_path / "spool.sqlite")
        spool.put(b"a")
        waiting = spool.first()
        assert waiting is not None
        ids.add(waiting.message_id)
        spool.done(waiting)
        spool.close()
    assert len(ids) == 3


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path)
    spool.put(b"a")
    program = "import sys; from pathlib import Path; from posewire.sinks.spool import Spool; Spool(Path(sys.argv[1]))"
    second = subprocess.run([sys.executable, "-c", program, str(path)], check=False, capture_output=True, text=True)
    assert "cannot be used for messages that wait" in second.stderr
    spool.close()


def test_a_damaged_spool_is_named(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(PosewireError, match=r"spool\.sqlite cannot be used"):
        Spool(path)
