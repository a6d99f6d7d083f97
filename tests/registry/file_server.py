"""A real HTTP server of one file, with the faults that servers have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket


@dataclass
class FileServer:
    """What it sends, and what it was asked for."""

    content: bytes
    etag: str = '"1"'
    ranges: bool = True
    cut_after: int | None = None  # bytes of the answer after which the connection is closed
    hang_after: int | None = None  # bytes of the answer after which nothing comes any more
    length: bool = True  # whether it says how long the answer is
    status: int = 200
    redirects: list[str] = field(default_factory=list)  # answered one by one before the file
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # path and headers of every request
    base: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def headers(self) -> dict[str, str]:
        """Of the last request."""
        return self.asked[-1][1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: FileServer

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """A client that goes away is no fault here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Be silent."""

    def do_GET(self) -> None:
        files = self.server.files
        files.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        if files.redirects:
            self._head(302, {"Location": files.redirects.pop(0), "Content-Length": "0"})
        elif files.status != 200:
            self._head(files.status, {"Content-Length": "0"})
        else:
            self._send(*self._wanted())

    def _wanted(self) -> tuple[int, dict[str, str], bytes]:
        files, size = self.server.files, len(self.server.files.content)
        wanted = self.headers.get("Range")
        if wanted is None or not files.ranges or self.headers.get("If-Range", files.etag) != files.etag:
            return 200, {}, files.content
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        return 206, {"Content-Range": f"bytes {start}-{size - 1}/{size}"}, files.content[start:]

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        files = self.server.files
        headers |= {"ETag": files.etag} if files.etag else {}
        headers |= {"Content-Length": str(len(body))} if files.length else {}
        self._head(status, headers)
        self.wfile.write(body[: files.cut_after or files.hang_after])
        self.wfile.flush()
        if files.hang_after is not None:
            files.ended.wait()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def file_server(content: bytes) -> Iterator[FileServer]:
    """Serve a file at every path of an address of its own."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.files = FileServer(content, base=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.files
        finally:
            server.files.ended.set()
            server.shutdown()
            thread.join()
