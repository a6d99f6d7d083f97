"""Standard output that cannot be written: one line on standard error, and an exit code that is not 0."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sample_images import ASTRONAUT

COMMANDS = [["--help"], ["models", "list"], ["models", "list", "--json"], ["keys", "new", "me"], ["predict", str(ASTRONAUT), "--json"]]


def run(arguments: list[str], stdout: int | None) -> subprocess.CompletedProcess[str]:
    """Run a command; `stdout` None closes its standard output."""
    command = [sys.executable, "-W", "error", "-m", "posewire", *arguments]
    close = (lambda: os.close(1)) if stdout is None else None
    return subprocess.run(
        command, check=False, env={"PATH": ""}, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=300, preexec_fn=close
    )


def fault(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("the key, shown this once")]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    return lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = run(arguments, full)
    os.close(full)
    assert fault(done) == "posewire: standard output cannot be written: No space left on device"


def test_a_reader_that_has_gone_is_one_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(["models", "list"], writer)
    os.close(writer)
    assert fault(done) == "posewire: standard output cannot be written: Broken pipe"


def test_closed_standard_output_is_one_line() -> None:
    assert "it is closed; redirect it" in fault(run(["models", "list"], None))
