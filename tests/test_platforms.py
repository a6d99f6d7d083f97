"""Posewire on a system without what only Linux or POSIX has. The process is real; the names are gone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests import other_system
from tests.sample_images import ASTRONAUT
from tests.server_process import listening_server

IMPORT_ALL = """
import importlib, pkgutil, posewire
elsewhere = {f"posewire.engine.{name}" for name in ("ipc", "process_pool", "process_workers", "worker")}  # of Linux
elsewhere.add("posewire.triton.script")  # of Triton
for found in pkgutil.walk_packages(posewire.__path__, "posewire."):
    if found.name not in elsewhere and not found.name.startswith("posewire.tools.") and not found.name.endswith(("__main__", "._kernels")):
        importlib.import_module(found.name)
print("imported")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process from which those names are hidden."""
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(Path(other_system.__file__).read_text())
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    return kept | {"PYTHONPATH": str(shim), "HIDE_FROM_POSEWIRE": "1", "POSEWIRE_CACHE_DIR": str(tmp_path / "cache")}


def python(environment: dict[str, str], *arguments: str | Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_names_are_hidden_and_every_module_of_the_service_is_imported(environment: dict[str, str]) -> None:
    script = "import os, signal; print(hasattr(os, 'memfd_create'), hasattr(signal, 'SIGHUP'))"
    assert python(environment, "-c", script).strip() == "False False"
    assert python(environment, "-c", IMPORT_ALL).strip() == "imported"


def test_it_predicts_and_reports(environment: dict[str, str], tmp_path: Path) -> None:
    found = json.loads(python(environment, "-m", "posewire", "predict", ASTRONAUT, "--json", "--out", tmp_path / "drawn"))
    assert len(found["people"][0]["keypoints"]) == 17
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["astronaut.pose.jpg"]
    assert json.loads(python(environment, "-m", "posewire", "doctor", "--json"))["ok"] is True


def test_it_serves_until_ctrl_c(environment: dict[str, str]) -> None:
    with listening_server(environment) as server:
        answer = httpx.post(f"{server.url}/v1/pose", content=ASTRONAUT.read_bytes(), headers={"Content-Type": "image/jpeg"}, timeout=60)
        assert answer.json()["images"][0]["people"]
        video = httpx.post(f"{server.url}/v1/video", content=b"a video", headers={"Content-Type": "video/mp4"}, timeout=60)
        assert (video.status_code, video.json()["type"]) == (501, "urn:posewire:problem:not-installed")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
