"""Starts, stops and kills the RTSP server of `program.py`."""

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self, TypeAlias

import av
import psutil

from posewire.types import UInt8Array

Transport: TypeAlias = Literal["tcp", "udp"]

_PYTHON = "/usr/bin/python3"  # of the system: it has the bindings of GStreamer
_NEEDS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "assert all(Gst.ElementFactory.find(name) for name in ('appsrc', 'h264parse', 'rtph264pay'))"
)
MISSING = (
    "GStreamer's RTSP server is missing: apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad python3-gi"
)
_START_S = 60.0


def is_installed() -> bool:
    """Return whether the system has GStreamer's RTSP server."""
    if not Path(_PYTHON).exists():
        return False
    return subprocess.run([_PYTHON, "-c", _NEEDS], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True, slots=True)
class Film:
    """A video of H.264 access units, one frame each, which begins with a key frame."""

    path: Path
    sizes: tuple[int, ...]  # bytes of each unit

    @classmethod
    def encode(cls, path: Path, frames: Iterable[UInt8Array], *, key_every: int = 10) -> Self:
        """Write a film.

        Args:
            path: of the file.
            frames: (H, W, 3) uint8 RGB, of even sides.
            key_every: frames from one key frame to the next.
        """
        sizes: list[int] = []
        encoder = av.CodecContext.create("libx264", "w")
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(key_every), "x264-params": "repeat-headers=1:scenecut=0"}
        encoder.options = options
        assert isinstance(encoder, av.VideoCodecContext)
        with path.open("wb") as file:
            for i, pixels in enumerate(frames):
                if not i:
                    encoder.height, encoder.width = pixels.shape[:2]
                    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 10), Fraction(10)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 10)
                sizes += [file.write(bytes(packet)) for packet in encoder.encode(frame)]
            sizes += [file.write(bytes(packet)) for packet in encoder.encode(None)]
        return cls(path, tuple(sizes))


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the server with its film."""

    path: str
    film: Film
    fps: float = 10.0
    transports: Sequence[Transport] = ("tcp", "udp")


class RtspSource:
    """An RTSP server on a port that stays the same over its restarts.

    Args:
        port: free.
        mounts: what it serves.
        log: file for what it prints.
        user: with `password`: who may watch, by digest authentication.
        password: of the user.
    """

    def __init__(self, port: int, mounts: Sequence[Mount], log: Path, user: str | None = None, password: str | None = None) -> None:
        self.port = port
        self._log = log
        self._config = {
            "port": port,
            "user": user,
            "password": password,
            "mounts": [
                {"path": m.path, "video": str(m.film.path), "sizes": m.film.sizes, "fps": m.fps, "transports": list(m.transports)}
                for m in mounts
            ],
        }
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, path: str) -> str:
        """Return the address of a mount, without user and password."""
        return f"rtsp://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            program = Path(__file__).with_name("program.py")
            self.process = subprocess.Popen([_PYTHON, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(self._config).encode() + b"\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != b"listening\n":
            raise RuntimeError(f"the RTSP server does not start: {self._log.read_text(errors='replace')}")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal: SIGSTOP makes it hang, SIGCONT lets it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def is_watched(self) -> bool:
        """Return whether somebody is connected."""
        if self.process is None:
            return False
        with suppress(psutil.NoSuchProcess):
            connections = psutil.Process(self.process.pid).net_connections("tcp4")
            return any(c.status == psutil.CONN_ESTABLISHED for c in connections)
        return False


@contextmanager
def running(source: RtspSource) -> Iterator[RtspSource]:
    """Start a server, and end it after the block."""
    source.start()
    try:
        yield source
    finally:
        source.kill()
