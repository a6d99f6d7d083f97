"""Clients of others, unchanged, against a real service: Triton's, KServe's, and the examples of the documentation."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from posewire.schemas.inference_protocol import INPUTS, InferParams, outputs
from tests.sample_images import ASTRONAUT
from tests.server_process import serve

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "open-inference-protocol.md"
PROGRAMS = ROOT / "tests" / "server"
INSTALL_S = 600


@dataclass(frozen=True, slots=True)
class Addresses:
    http: str  # host and port, as `grpc`
    grpc: str


@pytest.fixture(scope="module")
def service() -> Iterator[Addresses]:
    with serve(grpc_port="0", workers="1", min_detection_score="0.5", request_timeout_ms="60000") as server:
        [address] = [found[1] for entry in server.log if (found := re.search(r"gRPC on (\S+)", str(entry["message"])))]
        yield Addresses(server.url.removeprefix("http://"), address)


@pytest.fixture(scope="module")
def kserve_python(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment with KServe's client, which needs an older psutil than ours. It is kept for the next run."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("uv is not installed: no environment for KServe's client")
    folder = request.config.cache.mkdir("kserve") / "environment"
    python = folder / "bin" / "python"
    if not python.exists():
        try:
            subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True, timeout=INSTALL_S)
            subprocess.run([uv, "pip", "install", "-q", "--python", python, "kserve>=0.15"], check=True, timeout=INSTALL_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"KServe's client cannot be installed: {error}")
    return python


def run(*command: str | Path, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tritons_clients_get_everything(service: Addresses) -> None:
    found: dict[str, Any] = json.loads(run(sys.executable, PROGRAMS / "triton_client.py", service.http, service.grpc, ASTRONAUT))
    for report in (found["http"], found["grpc"]):
        boxes = report.pop("boxes")
        assert [len(box) for box in boxes] == [4, 4]
        assert boxes == report.pop("some_boxes") == found["json"] * 2
        assert "other" in report.pop("refused")
        assert report == {
            "live": True,
            "ready": True,
            "other_ready": False,
            "inputs": ["images", "boxes", "boxes_count"],
            "id": "42",
            "people_count": [1, 1],
            "keypoints": [2, 17, 3],
            "some_people": [1, 1],
            "not_asked_for": True,
            "given_boxes": [[70, 5, 300, 500]] * 2,
        }
    assert found["http"] == found["grpc"]


def test_kserves_clients_get_everything(service: Addresses, kserve_python: Path) -> None:
    found = json.loads(run(kserve_python, PROGRAMS / "kserve_client.py", f"http://{service.http}", service.grpc, ASTRONAUT))
    person = found["rest"].pop("binary")
    assert (person["id"], len(person["boxes"]), person["keypoints"]) == ("42", 1, [1, 17, 3])
    assert found["rest"].pop("json") == found["grpc"].pop("infer") == person
    assert found["rest"] == {"live": True, "ready": True, "model_ready": True, "other_ready": False}
    assert found["grpc"] == {"live": True, "ready": True, "model_ready": True}


def examples(language: str) -> list[str]:
    """The code blocks of the page that talk to a service, in one language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if "localhost:" in block]


def example_id(text: str) -> str:
    return next(name for name in ("curl", "kserve", "tritonclient.http", "tritonclient.grpc") if name in text)


@pytest.mark.parametrize("example", examples("sh") + examples("python"), ids=example_id)
def test_the_examples_of_the_page_run(service: Addresses, tmp_path: Path, request: pytest.FixtureRequest, example: str) -> None:
    shutil.copy(ASTRONAUT, tmp_path / "photo.jpg")
    code = example.replace("localhost:8000", service.http).replace("localhost:9000", service.grpc)
    if "curl" in code:
        if not (shutil.which("curl") and shutil.which("base64")):
            pytest.skip("curl or base64 is not installed")
        [boxes] = json.loads(run("sh", "-c", code, folder=tmp_path))["outputs"]
        assert (boxes["name"], boxes["shape"]) == ("boxes", [1, 4])
        return
    python: Path | str = request.getfixturevalue("kserve_python") if "kserve" in code else sys.executable
    assert re.search(r"[\[(]1, 17, 3[\])]", run(python, "-c", code, folder=tmp_path))


def test_every_kind_of_client_has_an_example() -> None:
    assert [example_id(example) for example in examples("sh") + examples("python")] == [
        "curl",
        "tritonclient.http",
        "tritonclient.grpc",
        "kserve",
    ]


def test_the_page_has_every_tensor() -> None:

    text = PAGE.read_text(encoding="utf-8")
    for spec in (*INPUTS, *outputs(17)):
        assert re.search(rf"^\| `{spec.name}` \| {spec.datatype} \|", text, re.MULTILINE), spec.name
    for name in InferParams.model_fields:
        assert f"| `{name}` |" in text
