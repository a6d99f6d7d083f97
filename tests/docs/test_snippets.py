"""Every block of code in the README and in docs/ is run, or says why it is not."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.docs.documents import ROOT, Block, blocks, name_of, pages, run_elsewhere
from tests.evaluate.made import annotation, make_set
from tests.sample_images import ASTRONAUT, astronaut, encode
from tests.server_process import serve
from tests.videos import walk, write_video

RUN = ("sh", "python", "js", "json")
PARSED = ("yaml", "toml")
SHOWN = ("csv", "mermaid", "nginx", "text", "xml")  # nothing to run
URL = "http://127.0.0.1:8000"
DIFFERENT = ("request_id", "timings_ms")  # from answer to answer


def to_do(path: Path) -> list[Block]:
    """The blocks of a page that are run or parsed."""
    return [block for block in blocks(path) if not block.not_run and block.language in RUN + PARSED and not run_elsewhere(path)]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """The address of a service."""
    with serve() as server:
        yield server.url


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the pages name."""
    small = np.asarray(cv2.resize(astronaut(), (256, 256)), np.uint8)
    (tmp_path / "tests/data").mkdir(parents=True)
    shutil.copy(ASTRONAUT, tmp_path / "tests/data")
    (tmp_path / "holiday").mkdir()
    for name in ("a.jpg", "street.jpg", "holiday/beach.jpg", "holiday/hotel.jpg"):
        (tmp_path / name).write_bytes(encode(astronaut()))
    for name in ("b.png", "bb.png"):
        (tmp_path / name).write_bytes(encode(small, ".png"))
    make_set(tmp_path / "coco", [annotation(1, 1), annotation(2, 2)], people=2)
    write_video(tmp_path / "walk.mp4", walk(6))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("POSEWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("POSEWIRE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a block that installs is not to change this environment: it fails until it is marked
    monkeypatch.setenv("NPM_CONFIG_OFFLINE", "true")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def output_of(command: list[str], text: str) -> str:
    """What a program prints that reads `text`; it must succeed."""
    run = subprocess.run(command, check=False, input=text, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, f"exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def run_python(text: str, path: Path, line: int, namespace: dict[str, Any]) -> str:
    """What a block prints; its names stay in `namespace`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * line + text, str(path), "exec", dont_inherit=True), namespace)
    return printed.getvalue()


def differences(shown: object, real: object, *, shape_only: bool, at: str = "$") -> list[str]:
    """Where the answer that a page shows is unlike the real one. Numbers may differ a little, keys and kinds may not."""
    if isinstance(shown, Mapping) and isinstance(real, Mapping):
        if shown.keys() != real.keys():
            return [f"{at}: {sorted(shown)} is shown, {sorted(real)} is real"]
        return [
            fault
            for key, value in shown.items()
            for fault in differences(value, real[key], shape_only=shape_only or key in DIFFERENT, at=f"{at}.{key}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        if len(shown) > len(real) or (len(shown) != len(real) and not shape_only):
            return [f"{at}: {len(shown)} items are shown, {len(real)} are real"]
        pairs = enumerate(zip(shown, real, strict=False))
        return [fault for i, (a, b) in pairs for fault in differences(a, b, shape_only=shape_only, at=f"{at}[{i}]")]
    if isinstance(shown, int | float) and isinstance(real, int | float):
        alike = shape_only or abs(shown - real) <= max(5, 0.05 * abs(shown))  # pixels; other processors round differently
    else:
        alike = type(shown) is type(real) and (shape_only or shown == real)
    return [] if alike else [f"{at}: {shown!r} is shown, {real!r} is real"]


def run_block(block: Block, path: Path, server_url: str, namespace: dict[str, Any], last: str) -> str:
    """What a block prints."""
    text = block.text.replace(URL, server_url)
    match block.language:
        case "sh":
            return output_of(["bash", "-euo", "pipefail"], text.replace(".venv/bin/", ""))
        case "js":
            return output_of(["node", "--input-type=module", "-"], text)
        case "python":
            return run_python(text, path, block.line, namespace)
        case "json":
            assert last, "no block before this one printed what it shows"
            assert differences(json.loads(text), json.loads(last), shape_only=block.shape_only) == []
        case "yaml":
            assert list(yaml.safe_load_all(text))
        case "toml":
            assert tomllib.loads(text)
    return last


@pytest.mark.parametrize("path", [path for path in pages() if to_do(path)], ids=name_of)
def test_every_block_of_a_page_does_what_the_page_says(path: Path, workplace: Path, server_url: str) -> None:
    absent = set()
    namespace: dict[str, Any] = {"__name__": "__page__"}
    last = ""
    for block in to_do(path):
        needed = {"js": "node"}.get(block.language, "curl" if block.language == "sh" and "curl " in block.text else "bash")
        if shutil.which(needed) is None:
            absent.add(needed)
            continue
        try:
            last = run_block(block, path, server_url, namespace, last)
        except BaseException as error:
            error.add_note(f"{name_of(path)}, the block of line {block.line}")
            raise
    if absent:
        pytest.skip(f"{', '.join(absent)} is not here: blocks that need it were not run")


@pytest.mark.parametrize("path", pages(), ids=name_of)
def test_every_block_has_a_language_and_is_run_or_says_why_not(path: Path) -> None:
    if elsewhere := run_elsewhere(path):
        assert (ROOT / elsewhere).is_file(), f"{elsewhere} is to run the blocks of this page, but it does not exist"
        return
    wrong = [f"line {block.line}: {block.language or 'no language'}" for block in blocks(path)
             if not block.not_run and block.language not in RUN + PARSED + SHOWN]  # fmt: skip
    assert wrong == []


def test_a_wrong_answer_on_a_page_is_found() -> None:
    real = {"people": [{"x": 100.0, "name": "nose"}, {"x": 3.0, "name": "left_eye"}], "request_id": "1"}
    near = {"people": [{"x": 101.0, "name": "nose"}, {"x": 3.0, "name": "left_eye"}], "request_id": "2"}
    assert differences(near, real, shape_only=False) == []
    assert differences({"people": [{"x": 9.0, "name": "ear"}], "request_id": "2"}, real, shape_only=True) == []
    for shown in (
        {"people": [], "request_id": "1"},
        {"people": real["people"]},
        {"people": [{"x": 120.0, "name": "nose"}, {"x": 3.0, "name": "left_eye"}], "request_id": "1"},
        {"people": [{"x": 100.0, "name": "ear"}, {"x": 3.0, "name": "left_eye"}], "request_id": "1"},
        {"people": [{"x": "100", "name": "nose"}, {"x": 3.0, "name": "left_eye"}], "request_id": "1"},
    ):
        assert differences(shown, real, shape_only=False), shown
