"""A batch on a local Ray with two actors: kill -9 of the process that was started, then of an actor."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.batch.made import small, write_tar
from tests.batch.test_cli import command, images_of

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'posewire[ray]'")

IMAGES, FILES = 220, 20  # in an archive, and in files of their own, of which one is empty
SIDE = 640  # pixels: about 30 images are a block of Ray, so that there is a middle to kill in
LIMIT_S = 600  # of one run, on a busy machine
_SLOW = "timed out during startup"  # Ray gives its own processes half a minute to start


class OnRay:
    """Runs `posewire batch --ray local`, in an environment by which all processes of its Ray are found."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.out = root / "out"
        self._log = root / "log.txt"
        self._mark = str(root / "cache")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "POSEWIRE_CACHE_DIR": self._mark,
            "RAY_TMPDIR": str(scratch),
        }
        sources = [write_tar(root / "t.tar", {f"{i:03}.jpg": small(SIDE) for i in range(IMAGES)}), root / "in"]
        (root / "in").mkdir()
        for i in range(FILES):
            (root / "in" / f"f{i:02}.jpg").write_bytes(small(SIDE) if i else b"")
        self._command = command(*sources, "--out", self.out, "--shard-images", "20", "--ray", "local", "--workers", "2")

    def run(self, in_the_middle: Callable[[subprocess.Popen[bytes]], None] | None = None) -> tuple[int, str]:
        """Return the exit code and what was printed; a function is called when two shards more than before are there.

        The output goes to a file, because a full pipe would stop the run.
        """
        before, end = self._shards(), time.monotonic() + LIMIT_S
        with self._log.open("wb") as log, subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log) as process:
            try:
                while process.poll() is None:
                    assert time.monotonic() < end, f"no end after {LIMIT_S} s: {self._log.read_text()}"
                    if in_the_middle is not None and self._shards() >= before + 2:
                        in_the_middle(process)
                        in_the_middle = None
                    time.sleep(0.05)
            finally:
                process.kill()
        text = self._log.read_text()
        if _SLOW in text:
            pytest.skip("Ray does not start on this machine within its half minute")
        assert in_the_middle is None, f"it ended before there was a middle: {text}"
        return process.returncode, text

    def processes(self, words: str = "") -> list[psutil.Process]:
        """Return the processes of all runs that are there, with these words in their command line."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("POSEWIRE_CACHE_DIR") == self._mark and words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def left(self) -> list[psutil.Process]:
        """Return the processes that do not end within two minutes."""
        return psutil.wait_procs(self.processes(), timeout=120)[1]

    def end(self) -> None:
        """End every process that is left."""
        left = self.processes()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=60)

    def _shards(self) -> int:
        return len(list(self.out.glob("results/*.parquet")))


@pytest.fixture
def on_ray(tmp_path: Path) -> Iterator[OnRay]:
    scratch = Path(tempfile.mkdtemp(prefix="ray-"))  # the paths of its sockets must be short
    found = OnRay(tmp_path, scratch)
    try:
        yield found
    finally:
        found.end()
        shutil.rmtree(scratch)


def test_after_kill_9_the_same_command_goes_on_also_without_one_of_its_actors(on_ray: OnRay) -> None:
    code, _ = on_ray.run(lambda process: process.kill())
    assert code == -signal.SIGKILL
    first = images_of(on_ray.out) + images_of(on_ray.out, "failures")
    assert max(Counter(first).values()) == 1
    assert not (on_ray.out / "manifest.json").exists()
    assert on_ray.left() == []  # Ray ends with the process that has started it

    def kill_an_actor(_: subprocess.Popen[bytes]) -> None:
        actors = on_ray.processes("PoseActor")
        assert len(actors) == 2
        actors[0].kill()

    code, text = on_ray.run(kill_an_actor)
    assert code == 3, text  # one image is empty
    assert "Traceback" not in text
    assert "Warning" not in text
    assert f"{len(first)} were done before" in text
    images = images_of(on_ray.out)
    assert images == sorted([*(f"{i:03}" for i in range(IMAGES)), *(f"f{i:02}.jpg" for i in range(1, FILES))])
    assert images_of(on_ray.out, "failures") == ["f00.jpg"]
    assert on_ray.left() == []

    code, text = on_ray.run()
    assert (code, f"{IMAGES + FILES} were done before" in text) == (3, True), text
