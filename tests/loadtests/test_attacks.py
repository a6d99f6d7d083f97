"""The attacks, and what is noted of good clients beside them."""

import struct
import subprocess
import sys
import zlib
from typing import Any

import psutil
import pytest

from loadtests.attackers import ATTACKS, inflating_png, stop_time
from loadtests.attacks import STOP_S, beside, promises
from loadtests.hostile.mutations import png_blocks, with_checksums
from loadtests.processes import Server
from tests.server.streaming import Listen

KEPT: dict[str, Any] = {"success %": 100.0, "recovered": "yes, after 0.1 s", "stopped": None, "attackers got": "431 x9"}


async def test_without_an_attack_good_clients_are_all_answered(listen: Listen) -> None:
    service = await listen()
    row = await beside("none", Server(psutil.Process(), service.url), 1.0)
    assert (row["attack"], row["good requests"], row["success %"], row["others of them"]) == ("none", 10, 100.0, "")
    assert row["p99 ms"] > 0
    assert row["memory peak MB"] >= row["memory idle MB"] > 0
    assert row["/readyz"].startswith("200 x")
    assert row["recovered"].startswith("yes")
    assert row["attackers got"] == ""
    assert all(promises("none", row).values())


async def test_attackers_tell_what_they_got(listen: Listen) -> None:
    service = await listen()
    row = await beside("upgrade-h2c", Server(psutil.Process(), service.url), 1.0)
    assert row["attackers got"].startswith("200 x")
    assert row["success %"] == 100
    assert row["others of them"] == ""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("long-heads", {"success %": 98.0}),
        ("long-heads", {"recovered": "no, not in 60 s"}),
        ("upgrade-h2c", {"attackers got": "400 x3"}),
        ("upgrade-h2c", {"attackers got": "200 x3, 400 x1"}),
        ("refused-uploads", {"attackers got": "404: 404 x3, 415: no answer x1"}),
        ("trickling-videos", {"attackers got": "a good video: 503 x3"}),
        ("non-reading-videos", {"stopped": "not in 60 s"}),
        ("non-reading-videos", {"stopped": f"after {STOP_S + 0.1:.1f} s"}),
    ],
)
def test_a_promise_that_is_not_kept_is_told(name: str, change: dict[str, Any]) -> None:
    assert name in ATTACKS
    kept = KEPT | {"stopped": f"after {STOP_S - 1:.1f} s"}
    if name == "upgrade-h2c":
        kept |= {"attackers got": "200 x9"}
    assert all(promises(name, kept).values())
    broken = promises(name, kept | change)
    assert not all(broken.values())


def test_the_bomb_is_a_small_image_with_data_that_never_end() -> None:
    bomb = inflating_png(50_000)
    assert 49_000 < len(bomb) < 51_000
    assert with_checksums(bomb) == bomb
    chunks = {bomb[block.start + 4 : block.start + 8]: bomb[block.start + 8 : block.end - 4] for block in png_blocks(bomb)}
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (10, 10)
    inflated = zlib.decompressobj(-15).decompress(chunks[b"IDAT"][2:])  # the sum at the end is not that of all blocks
    assert len(inflated) > 900 * len(bomb)


def test_the_time_to_the_end_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0 <= stop_time(Server(psutil.Process(process.pid), "http://127.0.0.1:1")) < 30
