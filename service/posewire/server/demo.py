"""The demo page at `/` and the wall of cameras at `/cameras`: files of `web/`, compressed, with headers that allow only what they need."""

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Self

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

# 'self' covers the WebSocket too. The pages show opened videos and images from blobs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
# Beside those of every answer (`headers.py`).
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(self), fullscreen=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # browsers check for a new version each time
    "Vary": "Accept-Encoding",
}
# Not those of `mimetypes`: it reads the machine's, and a browser runs no module of another type.
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_WALL_LINK = re.compile(rb'<a [^>]*href="cameras".*?</a>', re.DOTALL)
_WEIGHT_0 = re.compile(r"q\s*=\s*0(\.0*)?")


@dataclass(frozen=True, slots=True)
class _WebFile:
    """A file of the page, as it is sent."""

    media_type: str
    content: bytes
    compressed: bytes  # gzip
    etag: str  # of `content`, without quotes

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        """Compress the content of a file. It is done once, so no request takes time for it."""
        media_type = _MEDIA_TYPES[PurePath(name).suffix]
        return cls(media_type, content, gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest()[:32])

    def answer(self, request: Request) -> Response:
        """Return the file, or 304 if the browser has this version."""
        compress = _accepts_gzip(",".join(request.headers.getlist("accept-encoding")))
        # The two encodings differ in their bytes, so they have different strong validators (RFC 9110, 8.8.3.3).
        etag = f'"{self.etag}-gzip"' if compress else f'"{self.etag}"'
        headers = _PAGE_HEADERS | {"ETag": etag} | ({"Content-Encoding": "gzip"} if compress else {})
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if known & {etag, "*"}:
            headers.pop("Content-Encoding", None)
            return Response(status_code=304, headers=headers)
        return Response(self.compressed if compress else self.content, headers=headers, media_type=self.media_type)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Return True if the header accepts gzip with a weight above 0 (RFC 9110, 12.5.3)."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        weights[coding.strip()] = weight.strip()
    return not _WEIGHT_0.fullmatch(weights.get("gzip", weights.get("*", "q=0")))


def install(app: FastAPI, *, cameras: bool) -> None:
    """Serve the demo page at `/`, the wall at `/cameras`, and their files under `/web`.

    Args:
        app: the application.
        cameras: False: the service can have no cameras, so there is no wall, and no link to it.
    """
    contents = {file.name: file.read_bytes() for file in (files("posewire") / "web").iterdir()}
    if not cameras:
        contents["index.html"] = _WALL_LINK.sub(b"", contents["index.html"])
    served = {name: _WebFile.of(name, content) for name, content in contents.items()}

    async def page(request: Request) -> Response:
        return served["index.html"].answer(request)

    async def wall(request: Request) -> Response:
        return served["cameras.html"].answer(request)

    async def web_file(request: Request) -> Response:
        file = served.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return file.answer(request)

    app.add_route("/", page, include_in_schema=False)
    if cameras:
        app.add_route("/cameras", wall, include_in_schema=False)
    app.mount("/web", Router([Route("/{name}", web_file)]), name="web")
