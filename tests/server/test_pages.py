"""The demo page's files and headers."""

import re
from importlib.resources import files
from urllib.parse import urljoin

import httpx
import pytest

from posewire.config import load_settings
from posewire.server.app import create_app
from tests.server.support import Api

WEB = files("posewire") / "web"


async def test_the_pages_and_all_they_load_come_from_here_with_strict_headers(api: Api) -> None:
    pages = [await api.client.get(path) for path in ("/", "/cameras")]
    assert all(page.headers["Content-Type"].startswith("text/html") for page in pages)
    assets = {asset for page in pages for asset in re.findall(r'(?:src|href)="([^"#]+\.\w+)"', page.text)}
    scripts = [(await api.client.get(f"/{asset}")).text for asset in assets if asset.endswith(".js")]
    modules = {f"web/{name}" for script in scripts for name in re.findall(r"from '\./([^']+)'", script)}
    assert {f"web/{file.name}" for file in WEB.iterdir()} == assets | modules | {"web/index.html", "web/cameras.html"}
    for path in ["", "cameras", *assets, *modules]:
        answer = await api.client.get(urljoin("http://posewire/", path))
        assert answer.status_code == 200, path
        policy = dict(directive.split(" ", 1) for directive in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Permissions-Policy"].startswith("camera=(self)")


async def test_the_page_needs_nothing_that_the_policy_forbids() -> None:
    for page in ("index.html", "cameras.html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", (WEB / page).read_text()), page
    for file in WEB.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "").replace("https:// ", "")
        assert not re.search(r"https?://[a-z]|\beval\(|innerHTML|@import", text), file.name


async def test_there_is_no_wall_where_there_can_be_no_cameras(api: Api) -> None:
    assert 'href="cameras"' in (await api.client.get("/")).text
    app = create_app(load_settings({}, max_cameras=0))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client:
        assert (await client.get("/cameras")).status_code == 404
        page = await client.get("/")
        assert page.status_code == 200
        assert "cameras" not in page.text
        assert 'href="docs"' in page.text


@pytest.mark.parametrize("path", ["/", "/cameras", "/web/app.js", "/web/style.css", "/web/icon.svg"])
async def test_text_is_compressed_for_those_that_accept_it(api: Api, path: str) -> None:
    plain = await api.client.get(path, headers={"Accept-Encoding": "identity"})
    small = await api.client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.content == plain.content  # httpx has decompressed it
    assert int(small.headers["Content-Length"]) < int(plain.headers["Content-Length"])
    assert small.headers["Content-Type"] == plain.headers["Content-Type"]
    assert small.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert small.headers["ETag"] != plain.headers["ETag"]
    head = await api.client.head(path, headers={"Accept-Encoding": "gzip"})
    assert head.headers["ETag"] == small.headers["ETag"]


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("*", True),
        ("GZIP;q=1.0", True),
        ("deflate", False),
    ],
)
async def test_the_weights_of_encodings_are_heeded(api: Api, accepted: str, compressed: bool) -> None:
    answer = await api.client.get("/", headers={"Accept-Encoding": accepted})
    assert ("Content-Encoding" in answer.headers) == compressed


async def test_a_browser_that_has_the_file_does_not_get_it_again(api: Api) -> None:
    for encoding in ("gzip", "identity"):
        first = await api.client.get("/web/app.js", headers={"Accept-Encoding": encoding})
        assert first.headers["Cache-Control"] == "no-cache"
        for known in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}', "*"):
            again = await api.client.get("/web/app.js", headers={"Accept-Encoding": encoding, "If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == first.headers["ETag"]
            assert again.headers["Vary"] == "Accept-Encoding"
        other = await api.client.get("/web/app.js", headers={"Accept-Encoding": encoding, "If-None-Match": '"other"'})
        assert other.status_code == 200
    assert (await api.client.get("/web/nothing.js")).status_code == 404
    assert (await api.client.post("/web/app.js")).status_code == 405
