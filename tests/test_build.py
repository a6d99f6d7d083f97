"""The kernels are built when Posewire is installed."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from posewire.native.library import FILE

ROOT = Path(__file__).parents[1]


def wheel(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    options = ["--disable-pip-version-check", "-v", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment)


def test_a_compiler_that_fails_is_told_and_leaves_no_wheel(tmp_path: Path) -> None:
    before = FILE.stat() if FILE.is_file() else None
    done = wheel(tmp_path, CXX="false")
    assert done.returncode != 0
    assert "the kernels cannot be built" in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
    assert (FILE.stat() if FILE.is_file() else None) == before


@pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")
def test_the_wheel_carries_the_kernels_and_says_for_which_machine(tmp_path: Path) -> None:
    done = wheel(tmp_path)
    assert done.returncode == 0, done.stderr
    [built] = tmp_path.glob("*.whl")
    assert not built.name.endswith("any.whl")
    library = zipfile.ZipFile(built).read(f"posewire/native/{FILE.name}")
    body, _, checksum = library.rpartition(b"\nposewire-sha256:")
    assert checksum == hashlib.sha256(body).digest()
