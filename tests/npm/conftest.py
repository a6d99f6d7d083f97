"""A copy of the npm package with its tools installed, and services for its tests."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posewire.server.auth import new_key
from tests.sample_images import ASTRONAUT
from tests.server_process import Server, serve
from tests.web.conftest import open_page  # noqa: F401 - a fixture

SOURCE = Path(__file__).parents[2] / "npm"
NPM = shutil.which("npm")

RunNpm = Callable[..., subprocess.CompletedProcess[str]]


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of node or npm; what it prints is in the error if it fails."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | environment | {"NO_UPDATE_NOTIFIER": "1"},
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of npm/, built. Skips where npm, or the tools that it installs, cannot be had."""
    if NPM is None:
        pytest.skip("there is no npm here (apt install npm)")
    folder = tmp_path_factory.mktemp("npm") / "npm"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "*.tgz"))
    shutil.copy(SOURCE.parent / "LICENSE", folder.parent)  # `npm pack` takes it from there
    installed = subprocess.run(
        [NPM, "ci", "--prefer-offline", "--no-audit", "--no-fund"], check=False, cwd=folder, capture_output=True, text=True, timeout=600
    )
    if installed.returncode:
        pytest.skip(f"npm ci cannot install the tools of the package: {installed.stderr.strip()[-300:]}")
    run([NPM, "run", "build"], folder)
    return folder


@pytest.fixture(scope="session")
def project(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project into which the tarball and `ws` are installed."""
    assert NPM is not None
    folder = tmp_path_factory.mktemp("project")
    tarball = run([NPM, "pack", "--json", "--pack-destination", str(folder)], package).stdout
    name = json.loads(tarball[tarball.index("[") :])[0]["filename"]
    run([NPM, "init", "--yes"], folder)
    run([NPM, "install", "--offline", "--no-audit", "--no-fund", f"./{name}"], folder)
    shutil.copytree(package / "node_modules" / "ws", folder / "node_modules" / "ws")
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serve(min_detection_score="0.5", stream_deadline_ms="30000") as running:
        yield running


@pytest.fixture(scope="session")
def service_variables(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the package's own tests: a service, one that needs a key, and an image."""
    key, line = new_key("node")
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(line)
    with serve(api_keys_file=str(keys)) as keyed:
        yield {"POSEWIRE_URL": server.url, "POSEWIRE_KEYED_URL": keyed.url, "POSEWIRE_KEY": key, "POSEWIRE_IMAGE": str(ASTRONAUT)}
