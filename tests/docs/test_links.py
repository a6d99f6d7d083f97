"""Links between the documents: the file exists, and has the heading."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs.documents import ROOT, documents, name_of


@cache
def tokens(path: Path) -> list[Token]:
    """The Markdown of a document without its generated parts."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def links(path: Path) -> Iterator[str]:
    """The targets of all links and images."""
    for token in tokens(path):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                yield str(target)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of the headings, as the site and the hosts of repositories make them."""
    found = set()
    for heading, content in zip(tokens(path), tokens(path)[1:], strict=False):
        if heading.type == "heading_open":
            text = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", content.content)).strip().lower()
            found |= {re.sub(r"\s", "-", text), re.sub(r"[-\s]+", "-", text)}
    return found


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    broken = []
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        made_for_the_site = file == ROOT / "docs/reference/openapi.json"
        if not made_for_the_site and (not file.exists() or not file.is_relative_to(ROOT)):
            broken.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(file):
            broken.append(f"{link}: no such heading")
    assert broken == []


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
