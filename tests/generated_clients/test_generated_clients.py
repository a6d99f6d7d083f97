"""Clients that three generators make from the OpenAPI document: every command and program of docs/generated-clients.md, as it stands there.

Each test needs a package registry, and is skipped where none can be reached.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests.generated_clients.conftest import FRAMES, PAGE, Workplace, blocks

# Beside the program of the page: each claim of its table on POST /v1/pose.
_POST_V1_POSE_OF_OPENAPI_PYTHON_CLIENT = """
from posewire_client import Client
from posewire_client.api.poses import estimate_poses
from posewire_client.models import CocoPerson, EstimatePosesFilesBody, EstimatePosesFormat, PoseRequest, PoseResponse
from posewire_client.types import File

client = Client(base_url="http://127.0.0.1:8000", timeout=60)
with open("astronaut.jpg", "rb") as image:
    assert isinstance(estimate_poses.sync(client=client, body=File(image)), PoseResponse)
with open("astronaut.jpg", "rb") as image:
    rows = estimate_poses.sync(client=client, body=File(image), format_=EstimatePosesFormat.COCO)
    assert isinstance(rows, list) and isinstance(rows[0], CocoPerson)
with open("astronaut.jpg", "rb") as image:
    form = EstimatePosesFilesBody(image=[File(image, file_name="a.jpg", mime_type="image/jpeg")])
    assert isinstance(estimate_poses.sync(client=client, body=form), PoseResponse)
"""
_POST_V1_POSE_OF_OPENAPI_GENERATOR = """
from pathlib import Path
from posewire_api import ApiClient, Configuration, PoseResponse, PosesApi

poses, image = PosesApi(ApiClient(Configuration(host="http://127.0.0.1:8000"))), Path("astronaut.jpg").read_bytes()
assert isinstance(poses.estimate_poses(image, _content_type="image/jpeg").actual_instance, PoseResponse)
[row] = poses.estimate_poses(image, _content_type="image/jpeg", format="coco", max_people=1).actual_instance
assert row.category_id == 1
try:
    poses.estimate_poses(image)
except TypeError:
    print("as the page says")
"""


def assert_it_works(printed: str, folder: Path) -> None:
    """A program of the page has named the models, found the astronaut, got a problem, drawn her, and seen every frame of the video."""
    lines = dict(line.split(": ", 1) for line in printed.splitlines())
    assert len(lines["models"].split()) == 2
    score, *box, name = re.sub(r"[\[\],]", "", lines["person"]).split()
    assert 0.2 < float(score) <= 1
    assert [float(side) for side in box] == pytest.approx([21.8, 19.2, 346.4, 476.4], abs=15)
    assert name == "nose"
    assert lines["problem"].startswith("400 urn:posewire:problem:bad-picture ")
    assert (folder / "drawn.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert lines["video"] == f"{FRAMES} frames, end"


def test_openapi_python_client(python: Workplace) -> None:
    (_, config), (_, commands), (_, program) = blocks("openapi-python-client")
    python.write("config.yaml", config)
    install, generate = commands.strip().splitlines()
    python.install(install)
    assert "WARNING" not in python.must_run(generate)
    python.write("program.py", program)
    assert_it_works(python.must_run("python program.py"), python.folder)
    python.write("more.py", _POST_V1_POSE_OF_OPENAPI_PYTHON_CLIENT)
    python.must_run("python more.py")


def test_openapi_generator(python: Workplace) -> None:
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    (_, commands), (_, program) = blocks("OpenAPI Generator")
    install, generate, install_client = commands.strip().splitlines()
    python.install(install)
    python.must_run(generate)
    python.install(install_client)
    python.write("program.py", program)
    assert_it_works(python.must_run("python program.py"), python.folder)
    python.write("more.py", _POST_V1_POSE_OF_OPENAPI_GENERATOR)
    assert python.must_run("python more.py") == "as the page says\n"


def test_openapi_typescript_and_openapi_fetch(node: Workplace) -> None:
    (_, commands), (_, program), (_, compile_and_run) = blocks("openapi-typescript and openapi-fetch")
    install, generate = commands.strip().splitlines()
    node.install(install)
    node.must_run(generate)
    node.write("client.mts", program)
    assert_it_works(node.must_run(compile_and_run), node.folder)


def test_asyncapi_parser_accepts_the_document_of_streams(node: Workplace) -> None:
    [version] = re.findall(r"`@asyncapi/parser` (\S+) accepts", PAGE.read_text())
    node.install(f"npm install @asyncapi/parser@{version}")
    node.write(
        "check.mjs",
        """
        import { Parser } from "@asyncapi/parser";
        const text = await (await fetch("http://127.0.0.1:8000/asyncapi.json")).text();
        const { document, diagnostics } = await new Parser().parse(text);
        const faults = diagnostics.filter((each) => each.severity <= 1);  // errors and warnings; the rest is advice
        console.log(document?.channels().all().length, document?.operations().all().length, JSON.stringify(faults));
        """,
    )
    assert node.must_run("node check.mjs") == "1 3 []\n"
