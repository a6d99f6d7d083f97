"""The demo page's files and headers."""

import re
from importlib.resources import files
from urllib.parse import urljoin

from tests.server.support import Api

WEB = files("posewire") / "web"


async def test_the_page_and_all_it_loads_come_from_here_with_strict_headers(api: Api) -> None:
    page = await api.client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assets = set(re.findall(r'(?:src|href)="([^"#]+\.\w+)"', page.text))
    scripts = [(await api.client.get(f"/{asset}")).text for asset in assets if asset.endswith(".js")]
    modules = {f"web/{name}" for script in scripts for name in re.findall(r"from '\./([^']+)'", script)}
    assert {f"web/{file.name}" for file in WEB.iterdir()} == assets | modules | {"web/index.html"}
    for path in ["", *assets, *modules]:
        answer = await api.client.get(urljoin("http://posewire/", path))
        assert answer.status_code == 200, path
        policy = dict(directive.split(" ", 1) for directive in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Permissions-Policy"].startswith("camera=(self)")


async def test_the_page_needs_nothing_that_the_policy_forbids() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    for file in WEB.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "").replace("https:// ", "")
        assert not re.search(r"https?://[a-z]|\beval\(|innerHTML|@import", text), file.name
