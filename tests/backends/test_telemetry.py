"""ONNX Runtime's telemetry is off in every process: it would write an identifier and a database into the home folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sample_images import ASTRONAUT

ENGINE_WITH_PROCESSES = """
import asyncio
from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.telemetry.metrics import Metrics

async def main():
    engine = load_engine(load_settings({}, device="cpu", workers=1, max_batch=1), Metrics(), processes=True)
    await engine.start()
    await engine.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "arguments",
    [["-m", "posewire", "predict", str(ASTRONAUT)], ["-c", ENGINE_WITH_PROCESSES], ["-c", "import posewire.engine.engine"]],
    ids=["predict", "worker processes", "library"],
)
def test_no_process_leaves_a_file_of_telemetry(tmp_path: Path, arguments: list[str]) -> None:
    folders = {
        name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    }
    for folder in folders.values():
        Path(folder).mkdir()
    subprocess.run([sys.executable, *arguments], check=True, env={"PATH": "", **folders}, capture_output=True, timeout=120)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in left if path.parent != tmp_path / "XDG_CACHE_HOME/posewire/profiles"] == []  # ours: measured costs


def test_an_own_setting_does_not_turn_it_on(tmp_path: Path) -> None:
    show = "import posewire, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    run = subprocess.run(
        [sys.executable, "-c", show], check=True, env={"PATH": "", "ORT_DISABLE_TELEMETRY": ""}, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "1\n"


@pytest.mark.parametrize("dockerfile", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_the_images_turn_it_off_for_every_program(dockerfile: str) -> None:
    text = (Path(__file__).parents[2] / "docker" / dockerfile).read_text(encoding="utf-8")
    assert "ORT_DISABLE_TELEMETRY=1" in text.split("AS service", 1)[1]
