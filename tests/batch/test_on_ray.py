"""A batch on a local Ray with two actors, one of which is killed."""

import importlib.util
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.batch.made import small, write_tar
from tests.batch.test_cli import command, images_of

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'posewire[ray]'")

IMAGES = 400
_SLOW = "timed out during startup"  # Ray gives its own processes half a minute to start


def actors_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of Ray that run models."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "PoseActor" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_an_actor_that_is_killed_loses_nothing_and_nothing_is_there_twice(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "t.tar", {f"{i:03}.jpg": small(300) for i in range(IMAGES - 20)})
    (tmp_path / "in").mkdir()
    for i in range(20):
        (tmp_path / "in" / f"f{i:02}.jpg").write_bytes(small(300) if i else b"")
    out = tmp_path / "out"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "POSEWIRE_CACHE_DIR": str(tmp_path / "cache")}
    arguments = command(archive, tmp_path / "in", "--out", out, "--shard-images", "20", "--ray", "local", "--workers", "2")
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killed = False
        while process.poll() is None:
            if not killed and len(list(out.glob("results/*.parquet"))) >= 2 and (actors := actors_of(process)):
                assert len(actors) == 2
                actors[0].send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.02)
        _, errors = process.communicate()
    if _SLOW in errors:
        pytest.skip("Ray does not start on this machine within its half minute")
    assert process.returncode == 3, errors  # one image is empty
    assert killed
    assert "Traceback" not in errors
    assert "Warning" not in errors
    images = images_of(out)
    assert max(Counter(images).values()) == 1
    assert images == sorted([*(f"{i:03}" for i in range(IMAGES - 20)), *(f"f{i:02}.jpg" for i in range(1, 20))])
    assert images_of(out, "failures") == ["f00.jpg"]
    again = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (again.returncode, f"{IMAGES} were done before" in again.stdout) == (3, True), again.stderr
