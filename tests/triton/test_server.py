"""A real Triton serves the repository, and Triton's own clients get the pipeline's people. docs/triton-kserve.md says how it is run.

TRITON is the command without the repository and the ports, such as `/opt/tritonserver/bin/tritonserver`.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest

from posewire.pipeline.pose_pipeline import PosePipeline
from tests.sample_images import ASTRONAUT
from tests.server.open_inference import bytes_tensor
from tests.triton.test_model import PIXELS

CLIENT = Path(__file__).parents[1] / "server" / "triton_client.py"

pytestmark = pytest.mark.skipif("TRITON" not in os.environ, reason="TRITON names no Triton server (docs/triton-kserve.md)")


@dataclass(frozen=True)
class Triton:
    http: str
    grpc: str


def free_ports() -> list[int]:
    """Three ports that nobody has at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [int(found.getsockname()[1]) for found in sockets]
    for found in sockets:
        found.close()
    return ports


def is_ready(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=5).status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server of the repository; it ends with the tests."""
    http, grpc, metrics = free_ports()
    ports = [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    hosts = ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    log = tmp_path_factory.mktemp("log") / "triton.log"
    command = [*shlex.split(os.environ["TRITON"]), f"--model-repository={repository}", *ports, *hosts]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            end = time.monotonic() + 600
            while not is_ready(f"127.0.0.1:{http}"):
                assert process.poll() is None, log.read_text(errors="replace")[-4000:]
                assert time.monotonic() < end, log.read_text(errors="replace")[-4000:]
                time.sleep(0.5)
            yield Triton(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        finally:
            process.terminate()
            process.wait(60)


def test_triton_s_clients_get_the_pipeline_s_people(triton: Triton, pipeline: PosePipeline) -> None:
    """By the program that asks Posewire's own service, unchanged."""
    done = subprocess.run(
        [sys.executable, CLIENT, triton.http, triton.grpc, ASTRONAUT], check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    box = pipeline(ASTRONAUT).people[0].box_xywh
    given = [pipeline(ASTRONAUT, boxes=[[70, 5, 300, 500]]).people[0].box_xywh] * 2
    for protocol in ("http", "grpc"):
        report = found[protocol]
        assert report["live"]
        assert report["ready"]
        assert not report["other_ready"]
        assert report["inputs"] == ["images", "boxes", "boxes_count"]
        assert (report["id"], report["people_count"], report["keypoints"]) == ("42", [1, 1], [2, 17, 3])
        np.testing.assert_allclose(report["boxes"], [box, box], atol=PIXELS)
        np.testing.assert_allclose(report["some_boxes"], [box, box], atol=PIXELS)
        assert report["some_people"] == [1, 1]
        assert report["not_asked_for"]
        np.testing.assert_allclose(report["given_boxes"], given, atol=PIXELS)
        assert "other" in report["refused"]
    np.testing.assert_allclose(found["json"], [box], atol=PIXELS)


def test_a_bad_image_is_an_error_of_400_and_the_server_lives(triton: Triton) -> None:
    data = bytes_tensor(ASTRONAUT.read_bytes(), b"\xff\xd8\xffnot a JPEG")
    described = {"name": "images", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [described]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(f"http://{triton.http}/v2/models/posewire/infer", head + data, headers)
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request, timeout=300)
    with caught.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read())["error"].startswith("image 1: ")
    assert is_ready(triton.http)
