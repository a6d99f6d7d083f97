"""A camera of HTTP for the tests: Motion JPEG."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sample_images import encode
from tests.videos import walk

_FRAMES = [encode(pixels) for pixels in walk(4)]


class MjpegCamera(http.server.ThreadingHTTPServer):
    """Sends Motion JPEG, 20 frames a second; each connection ends after `frames`."""

    daemon_threads = True

    def __init__(self, frames: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.frames = frames
        self.connections = 0
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.server_port}/video"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: MjpegCamera

    def do_GET(self) -> None:
        self.server.connections += 1
        if self.path != "/video":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(self.server.frames):
            data = _FRAMES[i % len(_FRAMES)]
            try:
                self.wfile.write(f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")
            except OSError:
                return
            if self.server.stopped.wait(0.05):
                return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@contextmanager
def running_camera(frames: int, port: int = 0) -> Iterator[MjpegCamera]:
    """A camera whose connections end after so many frames, on a port; 0: a free one."""
    with MjpegCamera(frames, port) as camera:
        thread = threading.Thread(target=camera.serve_forever)
        thread.start()
        try:
            yield camera
        finally:
            camera.stopped.set()
            camera.shutdown()
            thread.join()
