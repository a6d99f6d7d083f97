"""`python -m model_store.release` as a person runs it: what cannot be done is one line, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posewire.registry.store import ModelStore
from tests.release.conftest import contents

ROOT = Path(__file__).parents[2]
SHIPPED = ModelStore().manifest.defaults.pose


def release(work: Path, store: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    data = ["--images", work / "set/images", "--annotations", work / "set/annotations.json", "--about", work / "about.toml"]
    options = {"--variant": "litehrnet-18", "--name": "tiny", "--height": "64", "--width": "64"}
    options |= dict(zip(map(str, more[1::2]), map(str, more[2::2]), strict=True))
    command = [sys.executable, "-W", "error", "-m", "model_store.release", more[0], *data, "--store", store]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | {"PYTHONPATH": f"{ROOT / 'service'}:{ROOT}"}
    arguments = [str(part) for part in [*command, *(part for option in options.items() for part in option)]]
    return subprocess.run(arguments, check=False, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_comes_into_a_store(work: Path, tmp_path: Path) -> None:
    done = release(work, tmp_path / "store", work / "random.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny is in" in done.stdout
    again = release(work, tmp_path / "store", work / "random.safetensors")
    assert again.returncode == 0, "as good as what is there"
    assert "tiny, which shipped before, has" in again.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((ModelStore().root / "manifest.toml",), ["manifest.toml", "not a checkpoint"]),
        (("random", "--variant", "litehrnet-19"), ["litehrnet-19", "litehrnet-18"]),
        (("random", "--variant", "rtmdet-nano-lean", "--height", "64"), ["random.safetensors", "not this network's weights"]),
        (("random", "--height", "50"), ["multiples of 32"]),
        (("random", "--name", SHIPPED), [SHIPPED, "another name"]),
        (("random", "--name", "../x"), ["name", "../x"]),
        (("random", "--force", " "), ["--force", "reason"]),
        (("random", "--other-images", "."), ["--other-annotations", "both"]),
        (("random", "--about", __file__), ["test_command.py", "TOML"]),
    ],
)
def test_what_cannot_be_done_is_one_line(work: Path, tmp_path: Path, more: tuple[str | Path, ...], words: list[str]) -> None:
    checkpoint = work / "random.safetensors" if more[0] == "random" else more[0]
    done = release(work, tmp_path / "store", checkpoint, *more[1:])
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "store").exists() or contents(tmp_path / "store") == {}
