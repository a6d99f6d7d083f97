"""Tools of operators that the tests use where they are installed; what is missing is said in the skip."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/rules/posewire.yml"


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def run(*command: str | Path, stdin: str | None = None) -> str:
    """What a tool prints; its complaint fails the test."""
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, input=stdin, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    """Every rule, recording or alerting."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
