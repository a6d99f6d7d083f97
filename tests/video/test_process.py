"""The process that decodes a video: what it gives, and how it ends."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from posewire.errors import BadVideo, DecoderFailed, ServiceError, TooLarge
from posewire.video.process import DecodingProcess
from posewire.video.reading import VideoReader
from tests.videos import walk, write_sound, write_video

PIXELS = 320 * 320

# Starts to decode the video of its first argument, prints the id of the decoding process, and is killed.
_KILLED = """
import os, signal, sys
from posewire.video.process import DecodingProcess
with open(sys.argv[1], "rb") as file:
    process = DecodingProcess(file, max_pixels=320 * 320, max_frames=1000, max_seconds=100)
process.start()
print(process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def start(path: Path, *, max_pixels: int = PIXELS, max_frames: int = 1000, max_seconds: float = 100) -> DecodingProcess:
    with path.open("rb") as file:
        return DecodingProcess(file, max_pixels=max_pixels, max_frames=max_frames, max_seconds=max_seconds)


def is_running(pid: int) -> bool:
    """Also of a process that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """More than the pipe holds."""
    return write_video(tmp_path / "walk.mp4", walk(12))


def test_its_frames_are_those_of_the_reader(film: Path) -> None:
    with start(film) as process, VideoReader(film, max_pixels=PIXELS) as reader:
        assert process.start() == reader.info
        for ours, theirs in zip(process, reader, strict=True):
            assert (ours.index, ours.t_seconds) == (theirs.index, theirs.t_seconds)
            assert np.array_equal(ours.frame.pixels, theirs.frame.pixels)


def test_what_is_no_video_is_told_by_the_same_errors(film: Path, tmp_path: Path) -> None:
    with start(write_sound(tmp_path / "a.mp4")) as process, pytest.raises(BadVideo, match="only audio"):
        process.start()
    with start(film, max_pixels=PIXELS - 1) as process, pytest.raises(TooLarge, match="320 x 320"):
        process.start()
    with start(film, max_frames=11) as process, pytest.raises(TooLarge, match="11 frames"):
        process.start()
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    with start(damaged) as process:
        process.start()
        with pytest.raises(BadVideo, match=r"damaged after \d+ frames"):
            list(process)


@pytest.mark.parametrize(
    ("sent", "error"),
    [(signal.SIGSEGV, DecoderFailed), (signal.SIGABRT, DecoderFailed), (signal.SIGKILL, DecoderFailed), (signal.SIGXCPU, TooLarge)],
)
def test_a_crash_of_the_codec_is_an_error_of_this_video(film: Path, sent: signal.Signals, error: type[ServiceError]) -> None:
    with start(film) as process:
        process.start()
        assert next(process).index == 0
        os.kill(process.pid, sent)
        with pytest.raises(error):
            list(process)
    assert not is_running(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_memory_and_cpu_time_are_limited(film: Path) -> None:
    with start(film) as process:
        process.start()
        next(process)
        assert 0 < resource.prlimit(process.pid, resource.RLIMIT_AS)[0] < 4 * 2**30
        assert 0 < resource.prlimit(process.pid, resource.RLIMIT_CPU)[0] < 60
        resource.prlimit(process.pid, resource.RLIMIT_AS, (2**20, 2**20))  # less than it has: what it asks for now is refused
        with pytest.raises((TooLarge, DecoderFailed, BadVideo)):  # as the codec takes it
            list(process)


def test_who_waits_for_a_stopped_process_is_told_of_its_end(film: Path) -> None:
    read: list[int] = []
    process = start(film)
    process.start()
    os.kill(process.pid, signal.SIGSTOP)
    reader = threading.Thread(target=lambda: read.extend(frame.index for frame in process))
    reader.start()
    process.close()
    reader.join(30)
    assert not reader.is_alive()
    assert len(read) < 12
    assert not is_running(process.pid)
    assert list(process) == []


def test_it_ends_with_a_service_that_is_killed(film: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, film], capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    until = time.monotonic() + 30
    while is_running(int(killed.stdout)):
        assert time.monotonic() < until, "the process goes on without its service"
        time.sleep(0.01)
