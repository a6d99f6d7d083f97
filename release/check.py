"""Installs what was built into empty environments and runs the commands of a new user there.

    python -m release.check dist python3.11 python3.12 python3.13
    python -m release.check --uv uv dist python3.11    # installs by uv in place of pip, which takes less time

Needs a package registry and a port on the loopback. Prints a table in Markdown; exits with 1 if a step failed.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
_IMAGE: Final = _ROOT / "tests" / "data" / "astronaut.jpg"
_BUILT: Final = "built"  # what doctor says of kernels that run
_TIMEOUT_S: Final = 1800.0
_LIBRARY: Final = """
from posewire import PosePipeline
[person] = PosePipeline.load()("astronaut.jpg", max_people=1).people
assert person.keypoints.xy.shape == (17, 2), person.keypoints.xy.shape
"""


class StepError(Exception):
    """A step failed; the message says how."""


@dataclass(frozen=True)
class Way:
    """A way to install Posewire."""

    name: str
    artefact: str  # a pattern of files: of the wheel for this machine, or of the source distribution
    environment: dict[str, str] = field(default_factory=dict)
    compilers: bool = False  # the machine's are on the PATH
    kernels: bool = True  # they are built

    def path(self, scripts: Path) -> str:
        """The PATH of the installation and of the commands."""
        return os.pathsep.join([str(scripts), *([os.environ["PATH"]] if self.compilers else [])])


_WAYS: Final = (
    Way("wheel", f"*-manylinux*_{platform.machine()}.whl"),
    Way("sdist, the machine's compiler", "*.tar.gz", compilers=True),
    Way("sdist, no compiler: ziglang", "*.tar.gz"),
    Way("sdist, no compiler works", "*.tar.gz", environment={"CXX": "false"}, kernels=False),
)


class Environment:
    """An empty environment of a Python, and an empty folder to work in."""

    def __init__(self, python: str, way: Way, folder: Path, uv: str | None) -> None:
        made = [uv, "venv", "-q", "--python", python] if uv else [python, "-m", "venv"]
        subprocess.run([*made, str(folder / "venv")], check=True)
        self._uv = uv and shutil.which(uv)
        self._scripts = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        shutil.copy(_IMAGE, self.work)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSEWIRE_", "PYTHON", "CXX", "VIRTUAL_ENV"))}
        own = {"PATH": way.path(self._scripts), "POSEWIRE_CACHE_DIR": str(folder / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self.variables = clean | own | way.environment

    def command(self, name: str, *arguments: str) -> list[str]:
        """A command line of a program of the environment."""
        return [str(self._scripts / name), *arguments]

    def run(self, name: str, *arguments: str) -> str:
        """Run a program of the environment to its end, and return its output.

        Raises:
            StepError: it failed.
        """
        return self._run([str(self._scripts / name)], arguments)

    def _run(self, command: list[str], arguments: Sequence[str]) -> str:
        done = subprocess.run(
            [*command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.variables,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise StepError(f"{' '.join((*command, *arguments))}: exit code {done.returncode}: {' / '.join(last)}")
        return done.stdout

    def install(self, *requirements: str) -> None:
        """Install packages.

        Raises:
            StepError: it failed.
        """
        python = str(self._scripts / "python")
        self._run(
            [self._uv, "pip", "install", "-q", "--python", python] if self._uv else [python, "-m", "pip", "install", "-q"], requirements
        )


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise StepError(words)


def _doctor(environment: Environment, way: Way) -> None:
    found = json.loads(environment.run("posewire", "doctor", "--json"))
    _require(found["ok"], f"doctor: {found['verdict']}")
    _require(found["kernels"].startswith(_BUILT) == way.kernels, f"doctor: kernels: {found['kernels']}")
    _require(("PosewireKernels" in found["pose"]) == way.kernels, f"doctor: {found['pose']}")


def _models(environment: Environment, _: Way) -> None:
    _require("litehrnet18-wider-128x96" in environment.run("posewire", "models", "list"), "models list does not have the default model")
    environment.run("posewire", "models", "verify")


def _predict(environment: Environment, _: Way) -> None:
    answer = json.loads(environment.run("posewire", "predict", "astronaut.jpg", "--json", "--out", "drawn"))
    _require(len(answer["people"]) >= 1, "predict finds nobody")
    _require(any((environment.work / "drawn").iterdir()), "predict --out draws nothing")


def _library(environment: Environment, _: Way) -> None:
    environment.run("python", "-W", "error", "-c", _LIBRARY)


@contextmanager
def _service(environment: Environment) -> Iterator[str]:
    """A service that is ready, on a free port; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = environment.command("posewire", "serve", "--port", str(port))
    log = environment.work / "serve.log"
    with log.open("w") as output, subprocess.Popen(command, cwd=environment.work, env=environment.variables, stdout=output) as process:
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/readyz", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    _require(process.returncode == 0, f"serve: exit code {process.returncode} at SIGTERM: {log.read_text()[-500:]}")


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:  # not yet
            time.sleep(0.2)
    raise StepError("serve is not ready")


def _serve(environment: Environment, _: Way) -> None:
    with _service(environment) as address:
        headers = {"Content-Type": "image/jpeg"}
        request = urllib.request.Request(f"{address}/v1/pose?max_people=1", _IMAGE.read_bytes(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            _require(len(json.load(answer)["images"][0]["people"]) == 1, "POST /v1/pose finds nobody")


def _extra(environment: Environment, _: Way) -> None:
    """An extra is added by the name alone: the package that is installed satisfies it, no matter where it is from."""
    environment.install("posewire[video,heif]")
    environment.run("python", "-c", "import av, pillow_heif")


_STEPS: Final[dict[str, Callable[[Environment, Way], None]]] = {
    "doctor": _doctor,
    "models": _models,
    "predict": _predict,
    "library": _library,
    "serve": _serve,
    "extras": _extra,
}


def _check(python: str, way: Way, dist: Path, uv: str | None) -> tuple[list[str], bool]:
    """Install and run every step; return a row of the table, and whether all steps passed."""
    with tempfile.TemporaryDirectory(prefix="posewire-check.") as name:
        environment = Environment(python, way, Path(name), uv)
        version = environment.run("python", "-c", "import platform; print(platform.python_version())").strip()
        row = [version, way.name]
        [found] = dist.glob(way.artefact)
        artefact = shutil.copy(found, name)  # in a new place, so that no wheel is taken that was built from it before
        steps: dict[str, Callable[[Environment, Way], object]] = {
            "install": lambda environment, _: environment.install(artefact),
            **_STEPS,
        }
        for step, run in steps.items():
            start = time.monotonic()
            try:
                run(environment, way)
            except (StepError, ValueError, OSError, subprocess.TimeoutExpired) as error:
                print(f"{version}, {way.name}, {step}: {error}", file=sys.stderr)
                return [*row, f"**{step} failed**"], False
            row.append(f"{time.monotonic() - start:.0f} s")
        return row, True


def main() -> int:
    """Check every way with every Python; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="folder with one source distribution and the wheels")
    parser.add_argument("pythons", nargs="+", help="interpreters, of at least 3.11")
    parser.add_argument("--uv", help="the program uv, which installs in place of pip")
    options = parser.parse_args()
    print(f"| Python | Installed from | install | {' | '.join(_STEPS)} |")
    print("|---" * (len(_STEPS) + 3) + "|", flush=True)
    passed = True
    for python in options.pythons:
        for way in _WAYS:
            row, whole = _check(python, way, options.dist, options.uv)
            passed &= whole
            print(f"| {' | '.join(row)} |", flush=True)
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
