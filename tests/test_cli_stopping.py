"""`posewire predict` at SIGTERM and SIGHUP: what is there is whole, and nothing else is."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from tests.sample_images import ASTRONAUT
from tests.test_cli_video import lines_of, names
from tests.videos import times_of, walk, write_video

UMASK = 0o027


def start(stdout: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    def prepare() -> None:
        os.umask(UMASK)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command = [sys.executable, "-m", "posewire", "predict", *map(str, arguments)]
    with stdout.open("w") as file:
        return subprocess.Popen(command, env={"PATH": ""}, stdout=file, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)  # noqa: PLW1509 - no threads yet


def stop_when(process: subprocess.Popen[str], number: int, is_in_the_middle: Callable[[], bool]) -> str:
    """Send a signal in the middle of the work, and return standard error."""
    while not is_in_the_middle():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_drawn_images_and_lines_are_whole(tmp_path: Path, number: signal.Signals) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for i in range(300):
        (images / f"{i:03}.jpg").symlink_to(ASTRONAUT)
    process = start(tmp_path / "lines", images, "--out", out, "--json")
    assert "stopped" in stop_when(process, number, lambda: (tmp_path / "lines").stat().st_size > 0)
    lines = lines_of(tmp_path / "lines")
    assert 0 < len(lines) < 300
    assert abs(len(lines) - len(names(out))) <= 1  # the last may have been drawn no more
    for path in out.iterdir():
        assert path.name.endswith(".pose.jpg")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~UMASK
        image = cv2.imread(str(path))
        assert image is not None
        assert image.shape == (512, 512, 3)


def test_a_drawn_video_and_its_lines_are_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(tmp_path / "lines", write_video(tmp_path / "walk.mp4", walk(20) * 60), "--out", out, "--json")
    assert "stopped after" in stop_when(process, signal.SIGTERM, lambda: (tmp_path / "lines").stat().st_size > 0)
    assert names(out) == {"walk.partial.pose.mp4", "walk.partial.pose.jsonl"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o666 & ~UMASK}
    frames = len(lines_of(out / "walk.partial.pose.jsonl"))
    assert 0 < frames < 1200
    assert len(times_of(out / "walk.partial.pose.mp4")) == frames
    assert abs(len(lines_of(tmp_path / "lines")) - frames) <= 1


def test_a_list_for_coco_is_whole_or_not_there(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for i in range(300):
        (images / f"{i:03}.jpg").symlink_to(ASTRONAUT)
    process = start(tmp_path / "rows", images, "--out", out, "--json", "--format", "coco")
    stop_when(process, signal.SIGTERM, lambda: out.is_dir() and bool(names(out)))
    assert (tmp_path / "rows").read_text() == ""


def test_a_hangup_that_the_caller_ignores_is_ignored(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "posewire", "predict", str(ASTRONAUT), "--json", "--out", str(tmp_path / "out")]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does; the process inherits it
    process = subprocess.Popen(command, env={"PATH": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGHUP, before)
    while not (tmp_path / "out").is_dir():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, len(json.loads(out)["people"])) == (0, 1)
