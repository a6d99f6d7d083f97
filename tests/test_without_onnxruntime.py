"""Commands in an environment without ONNX Runtime, or with a broken one: one line says what to install."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sample_images import ASTRONAUT

# What stands in the place of the package, and what is said then.
MISSING = "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
BROKEN = 'raise ImportError("libonnxruntime.so.1: cannot open shared object file")'
STATES = [(MISSING, "pip install onnxruntime"), (BROKEN, "libonnxruntime.so.1")]


def posewire(folder: Path, content: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    (folder / "onnxruntime.py").write_text(content)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-W", "error", "-m", "posewire", *map(str, arguments)]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("content", "words"), STATES)
@pytest.mark.parametrize("arguments", [["predict", ASTRONAUT], ["serve", "--port", "0"], ["bench"]])
def test_a_command_that_needs_it_says_what_to_install(tmp_path: Path, content: str, words: str, arguments: list[str | Path]) -> None:
    done = posewire(tmp_path, content, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("posewire: ONNX Runtime ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "pip install" in done.stderr


@pytest.mark.parametrize(("content", "words"), STATES)
def test_doctor_reports_it_beside_all_else(tmp_path: Path, content: str, words: str) -> None:
    done = posewire(tmp_path, content, "doctor", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], done.stderr) == (1, False, "")
    assert words in found["verdict"]
    assert words in found["providers"]
    assert found["opencv"]


def test_what_runs_no_model_does_without_it(tmp_path: Path) -> None:
    assert posewire(tmp_path, MISSING, "models", "list", "--json").returncode == 0
    assert posewire(tmp_path, MISSING, "models", "verify").returncode == 0
