"""A process that reads one camera: real RTSP servers, playlists and devices, which go away and come back."""

import asyncio
import http.server
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from posewire.errors import BadVideo
from posewire.video.camera import CameraFrame
from posewire.video.camera_process import CameraProcess
from posewire.video.reading import VideoReader
from tests.rtsp.source import MISSING, Film, Mount, RtspSource, is_installed, running
from tests.sinks.receivers import free_port
from tests.videos import walk, write_video

PIXELS = 1_000_000
HANG_S = 60.0  # nothing here takes so long
SHARED_MEMORY = Path("/dev/shm")


class Watched:
    """A camera's process, and what it has reported."""

    def __init__(self, source: str) -> None:
        self.reports: list[str] = []
        self.process = CameraProcess(source, max_pixels=PIXELS, report=self.reports.append)

    async def frames(self, count: int) -> list[float]:
        """Their times, of the next frames."""
        times = []
        async with asyncio.timeout(HANG_S):
            for _ in range(count):
                newest = await self.process.newest()
                assert newest is not None, "the camera has ended"
                assert 0 <= time.monotonic() - newest.received_s < HANG_S
                times.append(newest.video.t_seconds)
        return times

    async def reported(self, text: str, count: int = 1) -> str:
        """The last of so many reports with this text; frames before are left out."""
        asking = asyncio.ensure_future(self.process.newest())
        try:
            async with asyncio.timeout(HANG_S):
                while len(found := [report for report in self.reports if text in report]) < count:
                    if asking.done():
                        assert asking.result() is not None, "the camera has ended"
                        asking = asyncio.ensure_future(self.process.newest())
                    await asyncio.wait([asking], timeout=0.05)
        finally:
            asking.cancel()
        return found[-1]


@asynccontextmanager
async def watching(source: str) -> AsyncIterator[Watched]:
    watched = Watched(source)
    try:
        yield watched
    finally:
        await watched.process.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    if not is_installed():
        pytest.skip(MISSING)
    return Film.encode(tmp_path_factory.mktemp("film") / "walk.h264", walk(20, size=128), key_every=5)


@pytest.fixture
def source(film: Film, tmp_path: Path) -> Iterator[RtspSource]:
    mounts = [Mount("/door", film), Mount("/udp", film, transports=["udp"]), Mount("/tcp", film, transports=["tcp"])]
    with running(RtspSource(free_port(), mounts, tmp_path / "rtsp.log", "user", "pass word")) as found:
        yield found


def with_password(source: RtspSource, path: str, password: str = "pass%20word") -> str:
    return source.url(path).replace("://", f"://user:{password}@")


class TestRtsp:
    @pytest.mark.parametrize("path", ["/tcp", "/udp"])
    async def test_frames_come_by_tcp_and_by_udp(self, source: RtspSource, path: str) -> None:
        async with watching(with_password(source, path)) as camera:
            times = await camera.frames(25)  # the film has 20
        assert times == sorted(times)
        assert camera.reports == []

    def test_the_frames_are_those_of_the_film(self, source: RtspSource) -> None:
        film = [frame.astype(int) for frame in walk(20, size=128)]
        with VideoReader(with_password(source, "/door"), camera=True, max_pixels=10**6) as reader:
            for read in itertools.islice(reader, 12):
                assert min(np.abs(read.frame.pixels - frame).mean() for frame in film) < 12  # what H.264 has lost; neighbours are 29 apart

    async def test_a_source_that_is_killed_is_watched_again_after_a_long_absence(self, source: RtspSource) -> None:
        async with watching(with_password(source, "/door")) as camera:
            [*_, before] = await camera.frames(3)
            source.kill()
            report = await camera.reported("nothing listens at this address", 3)
            source.start()
            [after, *_] = await camera.frames(3)
        assert "again in 2 s" in report  # the longest pause
        assert after > before
        assert not [text for text in camera.reports if "pass" in text]

    async def test_a_source_that_hangs_is_left_and_watched_again(self, source: RtspSource) -> None:
        async with watching(with_password(source, "/door")) as camera:
            await camera.frames(3)
            source.signal(signal.SIGSTOP)
            await camera.reported("has sent no frame for 10 s")
            source.signal(signal.SIGCONT)
            await camera.frames(3)

    @pytest.mark.parametrize(
        ("path", "password", "reason"),
        [
            ("/door", "wrong", "rejects the user or the password (401); again in 60 s"),  # cameras lock accounts
            ("/nowhere", "pass%20word", "has no such path (404); again in"),
        ],
    )
    async def test_a_rejection_has_its_reason(self, source: RtspSource, path: str, password: str, reason: str) -> None:
        async with watching(with_password(source, path, password)) as camera:
            report = await camera.reported(reason)
        assert report.startswith(f"{source.url(path)}: it cannot be opened")
        assert not [text for text in camera.reports if password in text]


async def test_a_source_that_accepts_and_says_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with watching(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x") as camera:
            await camera.reported("does not answer within 5 s; again in 2 s")


class Playlist:
    """A live HLS playlist of two parts a second, written as time goes by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.begun = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Write that it has an end."""
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        options = {"hls_time": "0.5", "hls_list_size": "4", "hls_flags": "delete_segments"}
        with av.open(str(self._folder / "live.m3u8"), "w", format="hls", options=options) as container:
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "tune": "zerolatency", "g": "5"})
            stream.width = stream.height = 128
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 10)
            images = walk(10, size=128)
            number = 0
            while not self._stopped.wait(0.1):
                frame = av.VideoFrame.from_ndarray(images[number % 10], format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
                number += 1
                if number == 20:
                    self.begun.set()
            container.mux(stream.encode(None))


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yield its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class TestPlaylists:
    async def test_a_live_playlist_plays_at_its_rate_and_is_not_played_again_at_its_end(self, tmp_path: Path) -> None:
        playlist = Playlist(tmp_path)
        playlist.start()
        try:
            assert await asyncio.to_thread(playlist.begun.wait, HANG_S)
            with serving(tmp_path) as url:
                async with watching(f"{url}/live.m3u8") as camera:
                    times = await camera.frames(25)  # more than there were at the start
                    assert times[-1] - times[0] >= 2.0  # and not as fast as the parts come
                    assert camera.reports == []
                    await asyncio.to_thread(playlist.end)
                    await camera.reported("has ended its playlist")
        finally:
            playlist.end()

    async def test_a_complete_playlist_plays_once_at_its_rate(self, tmp_path: Path) -> None:
        playlist = Playlist(tmp_path)
        playlist.start()
        assert await asyncio.to_thread(playlist.begun.wait, HANG_S)
        await asyncio.to_thread(playlist.end)
        with serving(tmp_path) as url:
            async with watching(f"{url}/live.m3u8") as camera, asyncio.timeout(HANG_S):
                times = [newest.video.t_seconds async for newest in _all(camera)]
        assert times[-1] == pytest.approx(1.4, abs=0.7)  # the four newest parts
        assert camera.reports == []

    async def test_a_playlist_that_is_away_has_its_reason(self, tmp_path: Path) -> None:
        with serving(tmp_path) as url:
            async with watching(f"{url}/live.m3u8") as camera:
                await camera.reported("has no such path (404)")


async def _all(camera: Watched) -> AsyncIterator[CameraFrame]:
    while (newest := await camera.process.newest()) is not None:
        yield newest


class TestDevices:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/dev/video99", "there is no such device; is it plugged in?"),
            ("/dev/null", "it is no video device"),
            ("/dev/shm", "it is no video device but a folder"),
        ],
    )
    async def test_what_is_no_camera_has_its_reason_and_is_tried_again(self, path: str, reason: str) -> None:
        async with watching(path) as camera:
            assert "again in 2 s" in await camera.reported(reason, 2)

    @pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="this system has no /dev/shm")
    async def test_a_video_file_among_the_devices_is_not_read(self) -> None:
        video = write_video(SHARED_MEMORY / f"posewire-{time.time_ns()}.mp4", walk(3))
        try:
            async with watching(str(video)) as camera:
                await camera.reported("it is no video device")
        finally:
            video.unlink()


class TestFiles:
    async def test_a_file_that_is_missing_is_no_camera_to_wait_for(self, tmp_path: Path) -> None:
        async with watching(str(tmp_path / "later.mp4")) as camera, asyncio.timeout(HANG_S):
            with pytest.raises(BadVideo, match="No such file"):
                await camera.process.newest()

    async def test_a_list_of_addresses_is_not_followed(self, tmp_path: Path) -> None:
        """A file that names addresses must not make the service ask them."""
        asked = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as inner:

            def accept() -> None:
                inner.settimeout(HANG_S)
                try:
                    inner.accept()
                except OSError:
                    return
                asked.set()

            thread = threading.Thread(target=accept)
            thread.start()
            names = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{inner.getsockname()[1]}/x.ts\n#EXT-X-ENDLIST\n"
            path = tmp_path / "list.m3u8"
            path.write_text(names)
            async with watching(str(path)) as camera, asyncio.timeout(HANG_S):
                with pytest.raises(BadVideo):
                    await camera.process.newest()
            assert not asked.is_set()
            inner.shutdown(socket.SHUT_RDWR)
            thread.join()


PROGRAM = """
import asyncio, psutil, sys
from posewire.video.camera import CameraFrame
from posewire.video.camera_process import CameraProcess
from posewire.video.reading import VideoReader

async def main():
    camera = CameraProcess(sys.argv[1], max_pixels=1_000_000, report=lambda text: print(psutil.Process().children()[0].pid, flush=True))
    await camera.newest()

asyncio.run(main())
"""


def test_a_process_whose_service_was_killed_ends_also_while_its_camera_is_away() -> None:
    source = f"rtsp://127.0.0.1:{free_port()}/x"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, source], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        decoder = psutil.Process(int(service.stdout.readline()))
        service.kill()
    until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not reached():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)
