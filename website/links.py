"""Links: the repository's files link to one another by their paths, the site's pages by their addresses."""

import posixpath
import re
from pathlib import Path

_LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def pages_outside(root: Path) -> dict[str, str]:
    """Return the Markdown files outside of docs/ that are pages of the site: by path from the root, the address in the site."""
    pages = {"SECURITY.md": "SECURITY.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
    pages |= {"loadtests/README.md": "load-tests.md", "loadtests/models/README.md": "network-tests.md"}
    pages |= {f"model_store/cards/{path.name}": f"cards/{path.name}" for path in sorted((root / "model_store/cards").glob("*.md"))}
    return {path: address for path, address in pages.items() if (root / path).exists()}


def moved_links(markdown: str, address: str, root: Path) -> str:
    """Return a page whose relative links lead to pages of the site.

    A link to a file of the repository that is no page becomes its text: the site does not carry the file.

    Args:
        markdown: of the page.
        address: of the page in the site, such as `how-to/gpu.md`.
        root: of the repository.
    """
    outside = pages_outside(root)
    source = {page: path for path, page in outside.items()}.get(address, f"docs/{address}")

    def moved(link: re.Match[str]) -> str:
        mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        if re.match(r"[a-z]+:|/", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = outside.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if page is None:
            return text
        return f"{mark}[{text}]({posixpath.relpath(page, posixpath.dirname(address) or '.')}{anchor})"

    return _LINK.sub(moved, markdown)
