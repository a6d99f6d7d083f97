"""Kill -9 at every access to the results: nothing is lost, and nothing is there twice."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.killed import BAD, IMAGES


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGKILL")
@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("OUT", "ndjson"),
        ("OUT/p.parquet", "parquet"),
        ("halves://OUT", "ndjson"),
        ("halves://OUT/p.parquet", "parquet"),
    ],
)
def test_a_batch_that_is_killed_at_any_point_is_completed(tmp_path: Path, address: str, form: str) -> None:
    command = [sys.executable, "-m", "tests.batch.killed", str(tmp_path / "run"), address, form]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    points = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(points) > 20
    keys = [name.removesuffix(".jpg") for name in IMAGES]
    bad = [name.removesuffix(".jpg") for name in sorted(BAD)]
    for number, point in enumerate(points, 1):
        assert point["exits"][-1] == 0, (number, point, run.stderr)
        assert point["exits"][0] == (-signal.SIGKILL if number < len(points) else 0)
        assert point["failures"] == bad, (number, point)
        assert point["results"] == [key for key in keys if key not in bad], (number, point)
        assert point["left"] == [], (number, point)
