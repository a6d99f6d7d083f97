"""The snippets of docs/javascript-client.md and of the package's README, each as a module of its own."""

import re
from pathlib import Path

import pytest

from tests.npm.conftest import SOURCE, run
from tests.server_process import Server

ROOT = SOURCE.parent
SNIPPETS = re.findall(
    r"(?<! -->\n)^```js\n(.*?)^```", (ROOT / "docs" / "javascript-client.md").read_text(), re.MULTILINE | re.DOTALL
)  # without those that a comment excludes
README = re.findall(r"^```js\n(.*?)^```", (SOURCE / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_has_snippets() -> None:
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_and_prints(project: Path, server: Server, number: int) -> None:
    printed = run_module(project, SNIPPETS[number], server)
    assert len(printed.splitlines()) >= 2


def test_the_readme_of_the_package_runs(project: Path, server: Server) -> None:
    [snippet] = README
    before = "import { readFile } from 'node:fs/promises';\nconst jpeg = await readFile('tests/data/astronaut.jpg');\n"
    before += "globalThis.WebSocket ??= (await import('ws')).WebSocket;\n"  # as Node has from 22 on
    assert len(run_module(project, before + snippet, server).splitlines()) >= 2


def run_module(project: Path, text: str, server: Server) -> str:
    """What a module prints that runs in the folder of an installed package."""
    if not (project / "tests").exists():
        (project / "tests").symlink_to(ROOT / "tests")
    (project / "snippet.mjs").write_text(text.replace("http://127.0.0.1:8000", server.url))
    return run(["node", "snippet.mjs"], project).stdout
