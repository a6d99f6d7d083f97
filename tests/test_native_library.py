"""A damaged kernel library is not loaded: loading it may end the process."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import posewire
from posewire.errors import ModelError
from posewire.native.library import FILE, load_kernels
from posewire.registry.store import default_root

SEAL = b"\nposewire-sha256:"  # as the build writes it: docs/kernels.md
PACKAGE = Path(posewire.__file__).parent
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")


def unsealed() -> bytes:
    return FILE.read_bytes().partition(SEAL)[0]


def sealed() -> bytes:
    return unsealed() + SEAL + hashlib.sha256(unsealed()).digest()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_library_that_is_cut_short_is_refused(tmp_path: Path, part: float) -> None:
    content = unsealed()
    with pytest.raises(ModelError, match=r"damaged|cannot be loaded"):
        load_kernels(written(tmp_path / "cut.so", content[: int(len(content) * part)]))


@pytest.mark.parametrize("at", [0.02, 0.3, 0.6, 0.95])
def test_a_library_that_was_written_over_is_refused(tmp_path: Path, at: float) -> None:
    content = bytearray(sealed())
    start = int(len(content) * at)
    content[start : start + 64] = bytes(byte ^ 0xFF for byte in content[start : start + 64])
    with pytest.raises(ModelError, match=r"damaged.*install Posewire again"):
        load_kernels(written(tmp_path / "over.so", bytes(content)))


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no library"])
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError):
        load_kernels(written(tmp_path / "none.so", content))


def test_a_library_that_somebody_built_by_hand_is_loaded(tmp_path: Path) -> None:
    assert load_kernels(written(tmp_path / "hand.so", unsealed())).level == load_kernels().level
    assert load_kernels(written(tmp_path / "built.so", sealed())).level == load_kernels().level


def test_onnx_runtime_takes_over_from_a_damaged_library(tmp_path: Path) -> None:
    package = tmp_path / "service" / "posewire"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "_model_store"))
    (tmp_path / "model_store").symlink_to(default_root())
    os.truncate(package / "native" / FILE.name, FILE.stat().st_size // 2)
    command = [sys.executable, "-W", "error", "-m", "posewire", "doctor", "--json"]
    environment = {"PATH": "", "PYTHONPATH": str(package.parent)}
    run = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert "damaged" in found["kernels"]
    assert str(package) in found["kernels"]
    assert "CPUExecutionProvider" in found["pose"]
    assert "the kernels are damaged and are not used" in run.stderr
