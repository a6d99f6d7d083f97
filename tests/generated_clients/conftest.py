"""A running service, a folder with the inputs of the page's programs, and tools of other people, installed by name and version."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import sample_images
from tests.server_process import serve
from tests.videos import walk, write_video

PAGE = Path(__file__).parents[2] / "docs" / "generated-clients.md"

FRAMES = 6

# For an installation or a generator on a busy machine; a call of the service has a limit of its own.
PATIENCE_S = 900

# What package managers say where they reach no registry.
_OFFLINE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|name resolution|NewConnectionError|Connection refused|No matching distribution"
)


def blocks(section: str) -> list[tuple[str, str]]:
    """Language and text of every block of code in a section of the page."""
    [text] = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder in which the commands of the page run as they stand, but for the address of the service."""

    folder: Path
    service: str  # http://HOST:PORT
    path: str  # of the environment of the commands

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text.replace("http://127.0.0.1:8000", self.service))

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the page; its output is text."""
        environment = {"PATH": self.path, "HOME": os.environ.get("HOME", str(self.folder)), "LANG": "C.UTF-8"}
        environment |= {name: value for name, value in os.environ.items() if "proxy" in name.lower() or name.startswith(("UV_", "PIP_"))}
        command = command.replace("http://127.0.0.1:8000", self.service)
        return subprocess.run(
            ["/bin/sh", "-ec", command], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    def must_run(self, command: str) -> str:
        """Run a command that must not fail; what it prints."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def install(self, command: str) -> None:
        """Run a command that installs packages; skip the test where no registry can be reached."""
        done = self.run(command)
        if done.returncode and _OFFLINE.search(done.stdout + done.stderr):
            pytest.skip(f"no package registry can be reached: {command}")
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address of a service with the models that ship."""
    with serve(workers="1") as server:
        yield server.url


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with an image and a video, as the page names them."""
    shutil.copy(sample_images.ASTRONAUT, tmp_path / "astronaut.jpg")
    write_video(tmp_path / "walk.mp4", walk(FRAMES))
    return tmp_path


@pytest.fixture
def python(service: str, inputs: Path) -> Workplace:
    """A workplace with an empty environment of Python."""
    subprocess.run([sys.executable, "-m", "venv", inputs / "venv"], check=True, timeout=PATIENCE_S)
    return Workplace(inputs, service, f"{inputs / 'venv' / 'bin'}:{os.environ['PATH']}")


@pytest.fixture
def node(service: str, inputs: Path) -> Workplace:
    """A workplace with Node and an empty package."""
    for tool in ("node", "npm", "npx"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    (inputs / "package.json").write_text('{"private": true}')
    return Workplace(inputs, service, os.environ["PATH"])
