"""A missing, damaged or doubled ONNX Runtime is one line that says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASTRONAUT = Path(__file__).parents[1] / "data" / "astronaut.jpg"

# Finds the folder `onnxruntime` of one place only, as if the modules of the package were removed.
FOLDER_ONLY = """
import sys
from importlib.machinery import PathFinder

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{folder!r}]) if name == "onnxruntime" else None

sys.meta_path.insert(0, Finder)
"""


def posewire(first: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command, with the modules of a folder before those that are installed."""
    command = [sys.executable, "-m", "posewire", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(first)}, timeout=120)


@pytest.mark.parametrize("arguments", [["doctor"], ["predict", str(ASTRONAUT)], ["serve", "--port", "0"], ["watch", str(ASTRONAUT)]])
def test_a_command_without_onnx_runtime_says_what_to_install(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    done = posewire(tmp_path, *arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("posewire: ONNX Runtime is not installed: pip install onnxruntime, or for a GPU pip install 'onnxruntime-gpu")


def test_what_is_left_of_two_packages_is_told(tmp_path: Path) -> None:
    (tmp_path / "here" / "onnxruntime" / "capi").mkdir(parents=True)
    (tmp_path / "sitecustomize.py").write_text(FOLDER_ONLY.format(folder=str(tmp_path / "here")))
    done = posewire(tmp_path, "doctor")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("posewire: ONNX Runtime is damaged: pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime")


def test_two_packages_of_onnx_runtime_are_a_warning(tmp_path: Path) -> None:
    package = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    done = posewire(tmp_path, "predict", str(ASTRONAUT))
    assert done.returncode == 0
    assert done.stdout.count("astronaut.jpg") == 1
    assert "onnxruntime and onnxruntime-gpu are both installed, and one has overwritten the other: pip uninstall -y" in done.stderr
    assert "posewire: " not in posewire(tmp_path / "nothing", "predict", str(ASTRONAUT)).stderr
