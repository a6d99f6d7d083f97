"""The peers: their environments, how each is started and how it is asked."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.model import PLAIN
from loadtests.processes import ROOT, Server, start
from loadtests.wire import request_bytes

_REQUIREMENTS = Path(__file__).parent / "requirements"
# Each with packages that contradict the others'.
ENVIRONMENTS = ("litserve", "bentoml", "ray")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with."""

    name: str
    environment: str | None  # of its own; None: that of the project
    command: tuple[str, ...]  # after the interpreter; PORT stands for the port
    path: str
    health: str
    variables: Mapping[str, str]
    as_json: bool = False  # takes a list of base64 images in JSON

    def request(self, image: bytes) -> bytes:
        """The request for one image."""
        if not self.as_json:
            return request_bytes(self.path, image)
        body = json.dumps({"images": [base64.b64encode(image).decode()]}).encode()
        return request_bytes(self.path, body, "application/json")


OWN = "posewire"

PEERS = (
    Peer(OWN, None, ("-m", "posewire", "serve", "--port", "PORT"), "/v1/pose", "/readyz", {"POSEWIRE_ACCESS_LOG_RATIO": "0.01"}),
    Peer("fastapi def", None, ("-m", "loadtests.peers.fastapi_app", "PORT"), "/def", "/health", {}),
    Peer("fastapi async", None, ("-m", "loadtests.peers.fastapi_app", "PORT"), "/async", "/health", {}),
    Peer("litserve", "litserve", ("-m", "loadtests.peers.litserve_app", "PORT"), "/pose", "/health", {}),
    Peer(
        "bentoml",
        "bentoml",
        ("-m", "bentoml", "serve", "loadtests.peers.bentoml_app:Pose", "--host", "127.0.0.1", "--port", "PORT"),
        "/pose",
        "/readyz",
        {"BENTOML_DO_NOT_TRACK": "True"},
        as_json=True,
    ),
    Peer(
        "ray serve",
        "ray",
        ("-m", "loadtests.peers.ray_app", "PORT"),
        "/pose",
        "/-/healthz",
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
)


def python_of(environment: str | None, folder: Path) -> Path:
    """The interpreter of an environment.

    Raises:
        FileNotFoundError: it was not made yet; says how.
    """
    if environment is None:
        return Path(sys.executable)
    python = folder / environment / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} is not there: make it with `python -m loadtests.peers setup`")
    return python


def make(folder: Path) -> None:
    """Make the environments, with the versions that are pinned; what is there already is brought up to date."""
    for name in ENVIRONMENTS:
        where = folder / name
        if not (where / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", where], check=True)
        install: list[str | Path] = [where / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", _REQUIREMENTS / f"{name}.txt"], check=True)
        subprocess.run([*install, "--no-deps", "-e", ROOT], check=True)


@contextmanager
def running(peer: Peer, port: int, folder: Path, logs: Path, plain: Path | None) -> Iterator[Server]:
    """Start a peer, with one thread a model run as everywhere, and end it afterwards.

    Posewire runs the same two ONNX files too, unless the others run the plain export: then it is as its users have it.
    """
    if peer.name != OWN:
        variables = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"} | dict(peer.variables)
        variables |= {PLAIN: str(plain.resolve())} if plain else {}
    else:
        variables = {} if plain else {"POSEWIRE_POSE_RUNTIME": "onnxruntime"}
    python = python_of(peer.environment, folder)
    variables["PATH"] = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [str(python), *(str(port) if part == "PORT" else part for part in peer.command)]
    log = logs / f"{peer.name.replace(' ', '-')}.log"
    with start(command, f"http://127.0.0.1:{port}", ROOT / log, peer.health, variables) as server:
        yield server
