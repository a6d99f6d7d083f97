"""The documents of the repository, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[2]

_ALIASES = {"bash": "sh", "shell": "sh", "py": "python", "javascript": "js"}
_MARK = re.compile(r"<!-- (not run|shape only): (\S.*?) -->\n\Z")
_ELSEWHERE = re.compile(r"^<!-- run by (\S+) -->$", re.MULTILINE)
_LEXER = FencedCodeBlockLexer("[^`\n]*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document."""

    line: int
    language: str  # "" if it names none
    text: str
    not_run: bool  # a comment before it gives the reason
    shape_only: bool  # likewise; of JSON: values are not compared, and lists may be shorter


def pages() -> list[Path]:
    """The README and every page in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documents() -> list[Path]:
    """The pages, and the other documents that the site has."""
    others = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "loadtests/README.md", "loadtests/models/README.md"]
    return [*pages(), *(ROOT / path for path in others if (ROOT / path).exists())]


def name_of(path: Path) -> str:
    """The path of a document from the root."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in their order."""
    document = Document(path.read_text(), str(path))
    for region in sorted(_LEXER(document), key=lambda region: region.start):
        language = region.lexemes["language"].strip()
        mark = _MARK.search(document.text[: region.start])
        kind = mark[1] if mark else ""
        line = document.text.count("\n", 0, region.start) + 1
        yield Block(line, _ALIASES.get(language, language), region.lexemes["source"], kind == "not run", kind == "shape only")


def run_elsewhere(path: Path) -> str | None:
    """The test that runs the blocks of this page, from the root; None: this folder runs them."""
    found = _ELSEWHERE.search(path.read_text())
    return found[1] if found else None
