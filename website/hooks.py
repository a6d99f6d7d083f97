"""Hooks of MkDocs: pages that are made from code, pages of the repository outside of docs/, and diagrams.

`python -m mkdocs build` loads this module (mkdocs.yml) from the root of the repository.
"""

import re
from pathlib import Path

from merm import render_diagram
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.command_line import command_line_page
from website.http_api import http_api, openapi_document
from website.links import moved_links, pages_outside
from website.stream_messages import stream_messages

ROOT = Path(__file__).parents[1]

# A page has such a comment where the generated part comes, so that it also reads well in the repository.
_GENERATED = {
    "<!-- generated: command line -->": command_line_page,
    "<!-- generated: HTTP API -->": http_api,
    "<!-- generated: stream messages -->": stream_messages,
}

# The whole text of a file of the repository.
_FILE = re.compile(r"<!-- file: (\S+) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Draw Mermaid's diagrams in the build: the theme would load Mermaid from another host."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "mermaid", "class": "diagram", "format": _draw}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/ and the OpenAPI document."""
    for path, address in pages_outside(ROOT).items():
        files.append(File.generated(config, address, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "reference/openapi.json", content=openapi_document()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put in the generated parts, and make the links between files of the repository links between pages."""
    for comment, generate in _GENERATED.items():
        if comment in markdown:
            markdown = markdown.replace(comment, generate())
    markdown = _FILE.sub(_file_of, markdown)
    return moved_links(markdown, page.file.src_uri, ROOT)


def _file_of(comment: re.Match[str]) -> str:
    path = ROOT / comment[1]
    return f"```{path.suffix[1:]}\n{path.read_text()}```" if path.exists() else ""


def _draw(source: str, _language: str, css_class: str, _options: object, _md: object, **_: object) -> str:
    svg = render_diagram(source)
    return f'<div class="{css_class}">{svg[svg.index("<svg") :]}</div>'
