"""Tools of operators that the tests use where they are installed; what is missing is said in the skip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/rules/posewire.yml"


# Some come as Python packages, into the environment that the tests run in.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    return pytest.mark.skipif(shutil.which(tool, path=PATH) is None, reason=f"{tool} is not installed")


def run(*command: str | Path, stdin: str | None = None) -> str:
    """What a tool prints; its complaint fails the test."""
    program, *arguments = map(str, command)
    found = shutil.which(program, path=PATH) or program
    done = subprocess.run([found, *arguments], check=False, capture_output=True, text=True, input=stdin, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    """Every rule, recording or alerting."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
