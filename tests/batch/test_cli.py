"""`posewire batch` as a process: exit codes, signals, kill -9, a full disk, and what it prints."""

import contextlib
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.batch.made import small, write_parquet, write_tar
from tests.videos import walk, write_video

_ENVIRONMENT = {"PATH": "", "POSEWIRE_WORKERS": "0"}  # threads start sooner than processes


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "posewire", "batch", *map(str, arguments)]


def batch(*arguments: str | Path, stdin: str = "", limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=_ENVIRONMENT, input=stdin, capture_output=True, text=True, timeout=600, check=False, preexec_fn=limit
    )  # fmt: skip


def images_of(out: Path, table: str = "results") -> list[str]:
    """The images of a table, sorted."""
    return sorted(image for path in (out / table).glob("*.parquet") for image in pd.read_parquet(path)["image"])


def archive_of(path: Path, images: int) -> Path:
    return write_tar(path, {f"{i:03}.jpg": small() for i in range(images)})


def test_all_kinds_of_sources_become_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(small(200))
    (folder / "empty.jpg").touch()
    write_tar(folder / "t.tar", {"k1.jpg": small(200), "k1.json": b"{}"})
    write_parquet(folder / "p.parquet", {"image": [{"bytes": small(200), "path": "x.jpg"}]})
    write_video(folder / "v.mp4", walk(3, 128))
    (folder / "cut.tar").write_bytes((folder / "t.tar").read_bytes()[:900])
    run = batch(folder, "--out", tmp_path / "out", "--fps", "5")
    assert run.returncode == 3, run.stderr
    assert images_of(tmp_path / "out") == ["0", "a.jpg", "k1", "v.mp4", "v.mp4"]
    assert images_of(tmp_path / "out", "failures") == ["", "empty.jpg"]
    assert "2 failed" in run.stdout
    again = batch(folder, "--out", tmp_path / "out", "--fps", "5")
    assert again.returncode == 3, again.stderr
    assert "0 images" in again.stdout
    assert "7 were done before" in again.stdout
    other = batch(folder, "--out", tmp_path / "out")
    assert (other.returncode, other.stdout) == (1, "")
    assert "fps was 5.0 and is None" in other.stderr


def test_a_list_from_standard_input_becomes_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(small(200))
    run = batch("-", "--out", tmp_path / "people.parquet", stdin=f"{tmp_path}/a.jpg\n")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("1 image in ")
    assert run.stdout.endswith("people.parquet: 1 image with 1 person\n")
    table = pd.read_parquet(tmp_path / "people.parquet")
    assert table[["image", "people"]].to_numpy().tolist() == [["a.jpg", 1]]
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "people.parquet"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["IN/nothing", "--out", "OUT"], "there is no image"), (["IN", "--out", "p.parquet", "--format", "ndjson"], "is Parquet")],
)
def test_what_cannot_be_begun_is_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").touch()
    run = batch(*(one.replace("IN", str(tmp_path / "in")).replace("OUT", str(tmp_path / "out")) for one in arguments))
    assert run.returncode == 1
    assert words in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_terminal_has_a_bar_with_the_rate(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "t.tar", 20)
    reader, terminal = pty.openpty()
    environment = _ENVIRONMENT | {"TERM": "xterm"}
    shown = b""
    with subprocess.Popen(command(archive, "--out", tmp_path / "out"), env=environment, stderr=terminal) as process:
        os.close(terminal)
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(reader, 65536):
                shown += piece
    os.close(reader)
    assert process.returncode == 0
    assert b"20 images" in shown
    assert b"images/s" in shown
    assert b"100%" in shown


def test_a_worker_process_that_is_killed_costs_no_image(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "t.tar", 40), tmp_path / "out"
    environment = _ENVIRONMENT | {"POSEWIRE_WORKERS": "2"}
    with subprocess.Popen(command(archive, "--out", out, "--shard-images", "5"), env=environment, stderr=subprocess.PIPE) as process:
        while not list(out.glob("results/*.parquet")):
            assert process.poll() is None
            time.sleep(0.005)
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "posewire.engine.worker" in " ".join(child.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        process.communicate(timeout=300)
    assert process.returncode == 0
    assert images_of(out) == [f"{i:03}" for i in range(40)]


def take_signals() -> None:
    """Undo that a caller in the background makes its children ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def ended_in_the_middle(out: Path, number: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Send a signal when there is one shard more than before."""
    before = len(list(out.glob("results/*.parquet")))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command(*arguments),
        env=_ENVIRONMENT,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=take_signals,  # noqa: PLW1509 - no threads yet
    )
    while len(list(out.glob("results/*.parquet"))) <= before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)
    text, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, text, errors)


def test_after_kill_9_the_same_command_goes_on(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "t.tar", 60), tmp_path / "out"
    arguments: list[str | Path] = [archive, "--out", out, "--shard-images", "5"]
    counts = []
    for _ in range(2):
        assert ended_in_the_middle(out, signal.SIGKILL, *arguments).returncode == -signal.SIGKILL
        images = images_of(out)
        assert max(Counter(images).values()) == 1
        counts.append(len(images))
    assert counts == sorted(set(counts))
    assert not (out / "manifest.json").exists()
    run = batch(*arguments)
    assert run.returncode == 0, run.stderr
    assert images_of(out) == [f"{i:03}" for i in range(60)]
    assert json.loads((out / "manifest.json").read_text())["images"] == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_cleanly_and_nothing_that_is_done_is_lost(tmp_path: Path, number: signal.Signals) -> None:
    archive, out = archive_of(tmp_path / "t.tar", 80), tmp_path / "out"
    arguments: list[str | Path] = [archive, "--out", out, "--shard-images", "5"]
    run = ended_in_the_middle(out, number, *arguments)
    assert run.returncode == 128 + number
    assert run.stderr.splitlines()[-1] == "stopped; the same command goes on"
    assert "Traceback" not in run.stderr
    images = images_of(out)
    assert images == [f"{i:03}" for i in range(len(images))]
    assert 5 <= len(images) < 80
    assert {path.name for path in out.iterdir()} == {".lock", "results", "run.json"}


def test_a_full_disk_ends_the_command_and_the_same_command_goes_on(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "t.tar", 30), tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # the kernel's answer to a larger file is an error, as that of a full disk

    arguments: list[str | Path] = [archive, "--out", out, "--shard-images", "15"]
    run = batch(*arguments, limit=limit)
    assert run.returncode == 1
    assert "cannot be written: File too large; the same command goes on" in run.stderr
    assert images_of(out) == []
    assert batch(*arguments).returncode == 0
    assert images_of(out) == [f"{i:03}" for i in range(30)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(small())
    (tmp_path / "locked").mkdir(mode=0o500)
    run = batch(tmp_path / "a.jpg", "--out", tmp_path / "locked" / "out")
    assert run.returncode == 1
    assert "Permission denied" in run.stderr
