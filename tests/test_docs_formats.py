"""docs/formats.md: its commands print what stands below them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from posewire.formats.registry import FORMATS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "formats.md").read_text()
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def output_of(block: str, folder: Path) -> str:
    """What the commands of a block print, run in a folder where `tests/data` is."""
    (folder / "tests").symlink_to(ROOT / "tests")
    commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    settings = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")}
    environment = settings | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "POSEWIRE_WORKERS": "0"}
    script = "\n".join(["set -e", *commands])
    run = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=240)
    return run.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("--format ")[-1].split()[0][:20])
def test_a_command_prints_what_stands_below_it(block: str, tmp_path: Path) -> None:
    expected = "".join(f"{line}\n" for line in block.splitlines() if not line.startswith("$ "))
    printed = output_of(block, tmp_path)
    printed = printed if printed.endswith("\n") else f"{printed}\n"
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
    # Another CPU may round differently.
    assert [float(n) for n in NUMBER.findall(printed)] == pytest.approx([float(n) for n in NUMBER.findall(expected)], rel=0.01, abs=0.01)


def test_every_format_has_a_row() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE) == list(FORMATS)
