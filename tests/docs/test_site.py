"""The site: it builds without a warning, has all that it should, and asks no other host."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

import posewire
from posewire.config import load_settings
from posewire.server.app import create_app
from tests.docs.documents import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# What a browser loads by itself when it shows a page; links are not among them.
LOADED = re.compile(r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as `make docs` does."""
    pytest.importorskip("mkdocs", reason="the site needs the extra docs: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    build = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert build.returncode == 0, build.stderr
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_every_page_is_in_the_navigation(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert len(pages) > 40
    assert {"index.html", "SECURITY.html", "CONTRIBUTING.html", "cards/person-nano-320.html", "tutorials/ros2.html"} <= pages
    home = (site / "index.html").read_text()
    linked = set(re.findall(r'<a href="([^"#]+\.html)" class="md-nav__link', home)) | {"index.html"}
    assert pages - linked == set()


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = [first or second for first, second in LOADED.findall(page.read_text())]
        assert loaded
        assert [address for address in loaded if re.match(r"([a-z]+:)?//", address)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", style.read_text()), style.name


def test_the_reference_of_python_has_every_public_name(site: Path) -> None:
    page = text_of(site / "reference/python.html")
    found = {name: getattr(getattr(posewire, name), "__module__", "") for name in dir(posewire) if not name.startswith("_")}
    public = [name for name, module in found.items() if module.startswith("posewire")]
    assert {"PosePipeline", "PoseClient", "TooLarge"} <= set(public)
    for name in public:
        assert re.search(rf"\b{name}\b", page), name
    assert "width, height" in page  # from a docstring: the arguments are described


def test_the_reference_of_the_command_line_has_every_command(site: Path) -> None:
    page = text_of(site / "reference/command-line.html")
    for command in ("serve", "predict", "watch", "evaluate", "bench", "doctor", "keys new", "models list", "models pull", "models verify"):
        assert f"$ posewire {command}" in page, command
    assert "--min-detection-score" in page


def test_the_reference_of_http_has_every_route(site: Path) -> None:
    page = text_of(site / "reference/http.html")
    document = create_app(load_settings({})).openapi()
    assert json.loads((site / "reference/openapi.json").read_text()) == document
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page, path
    for name in document["components"]["schemas"]:
        assert re.search(rf"\b{name}\b", page), name


def test_the_page_of_streams_has_every_message(site: Path) -> None:
    page = text_of(site / "streaming.html")
    for name in ("StartMessage", "AckMessage", "StartedMessage", "StreamLimits", "ResultMessage", "TrackedPerson", "ErrorMessage"):
        assert re.search(rf"\b{name}\b", page), name


def test_the_diagram_is_drawn_in_the_build(site: Path) -> None:
    page = (site / "architecture.html").read_text()
    assert re.search(r'<div class="diagram"><svg .*worker processes', page, re.DOTALL)
    assert 'class="mermaid"' not in page


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address of a server of the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is that of the base
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(address: str) -> Iterator[tuple[Page, list[str]]]:
    """A page of a real Chromium, and the list of requests to other hosts, which fail."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        asked: list[str] = []

        def only_here(route: Route) -> None:
            if route.request.url.startswith(address):
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        page.route("**/*", only_here)
        yield page, asked
        browser.close()


def test_the_site_works_on_a_phone_and_without_internet(page: tuple[Page, list[str]], address: str) -> None:
    browser, asked = page
    for name in ("index", "architecture", "reference/http", "reference/python", "comparison", "settings"):
        browser.set_viewport_size({"width": 360, "height": 740})
        browser.goto(f"{address}/{name}.html")
        width = browser.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{name} is {width} pixels wide"
    browser.set_viewport_size({"width": 1280, "height": 800})
    browser.goto(f"{address}/index.html")
    browser.get_by_role("textbox", name="Search").fill("letterbox")
    expect(browser.locator(".md-search-result__item").first).to_be_visible(timeout=60_000)
    assert asked == []
