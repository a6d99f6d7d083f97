"""Sentences of the documentation are short: a reader whose first language is not English understands them at the first reading."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.documents import ROOT, name_of, pages

# An abbreviation does not end a sentence.
_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bet al)[.!?][\"')]*\s+(?=[A-Z`*\"(\[0-9])")


def paragraphs(markdown: str) -> list[str]:
    """The texts of the paragraphs outside of lists and tables; code within a line counts as one word."""
    texts, depth = [], 0
    kind = ""
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        depth += {"list_item_open": 1, "list_item_close": -1}.get(token.type, 0)
        if token.type == "inline" and kind == "paragraph_open" and not depth:
            parts = {"code_inline": "Code", "softbreak": " ", "hardbreak": " ", "html_inline": ""}
            texts.append("".join(parts.get(child.type, child.content) for child in token.children or []))
        kind = token.type
    return texts


def lengths(markdown: str) -> list[int]:
    """The numbers of words of all sentences."""
    sentences = [sentence for text in paragraphs(markdown) if not text.startswith(":::") for sentence in _END.split(text)]
    counted = [len(re.findall(r"\S*\w\S*", sentence)) for sentence in sentences]
    return [count for count in counted if count]


@pytest.mark.parametrize("path", [*pages(), ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_sentences_have_at_most_20_words_on_average(path: Path) -> None:
    counted = lengths(path.read_text())
    assert sum(counted) <= 20 * len(counted), f"{sum(counted) / len(counted):.1f} words on average"


def test_sentences_are_counted() -> None:
    text = "One two three. Four `five = 5` six: seven! Eight (e.g. Nine) ten?\n"
    text += "\n- not this\n\n| nor | this |\n|---|---|\n| a | b |\n\n```sh\nnor this\n```\n"
    assert lengths(text) == [3, 4, 4]
