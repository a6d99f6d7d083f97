"""A service with cameras whose RTSP server is on this machine."""

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtests.processes import Server
from loadtests.video.films import read
from posewire.errors import PosewireError
from tests.rtsp.source import MISSING, Film, is_installed

FPS = 10.0
USER, PASSWORD = "viewer", "a password"


class Missing(Exception):
    """Something that the measurement needs is not installed."""


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def film_of(video: Path, out: Path) -> Film:
    """Encode a video for the RTSP server, a key frame each second.

    Raises:
        Missing: the video or GStreamer is.
    """
    if not is_installed():
        raise Missing(MISSING)
    try:
        frames = read(video, 10_000)
    except PosewireError as error:
        raise Missing(f"{video}: {error}; apt-get install opencv-doc, or name another --video") from None
    out.mkdir(parents=True, exist_ok=True)
    return Film.encode(out / "film.h264", (frame.frame.pixels for frame in frames))


def with_password(url: str) -> str:
    """An address with the user and the password of the server."""
    return url.replace("://", f"://{USER}:{PASSWORD.replace(' ', '%20')}@")


class Watched:
    """The cameras of a service, over HTTP."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx.Client(base_url=server.url, timeout=60)

    def add(self, name: str, source: str, rules: Sequence[object], sinks: Sequence[object]) -> None:
        """Add a camera at the rate of the film."""
        body = {"name": name, "source": source, "fps": FPS, "rules": rules, "sinks": sinks}
        self._http.post("/v1/cameras", json=body).raise_for_status()

    def disable(self, name: str) -> None:
        """Stop watching it; its people leave."""
        self._http.patch(f"/v1/cameras/{name}", json={"enabled": False}).raise_for_status()

    def status(self, name: str) -> dict[str, Any]:
        """How it is doing."""
        answer = self._http.get(f"/v1/cameras/{name}")
        answer.raise_for_status()
        status: dict[str, Any] = answer.json()["status"]
        return status

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def until(reached: Callable[[], bool], within_s: float, every_s: float = 0.02) -> float | None:
    """Wait; return the seconds that it took, or None if it did not happen in time."""
    began = time.monotonic()
    while not reached():
        if time.monotonic() - began > within_s:
            return None
        time.sleep(every_s)
    return time.monotonic() - began


def left_behind(before: Sequence[psutil.Process], within_s: float = 15.0) -> int:
    """Return how many of these processes are still there after a while."""
    _, alive = psutil.wait_procs(before, timeout=within_s)
    return sum(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in alive)
