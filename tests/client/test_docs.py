"""The snippets of docs/python-client.md, each as a program of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import Server, serve
from tests.videos import walk, write_video

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python-client.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page names."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "tests").symlink_to(ROOT / "tests")
    write_video(folder / "walk.mp4", walk(4))
    return folder


def test_the_page_has_snippets() -> None:
    assert len(SNIPPETS) >= 8


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_and_prints(server: Server, workplace: Path, number: int) -> None:
    text = SNIPPETS[number].replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], check=False, cwd=workplace, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    assert done.stderr == ""
    assert done.stdout or "drawn.png" in text
