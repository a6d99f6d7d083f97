"""A camera of RTSP in a real service: nobody sees its password, and no process is left behind."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
import pytest

from tests.cameras.test_cameras import RULES, add, status, until
from tests.rtsp.source import MISSING, Film, Mount, RtspSource, is_installed, running
from tests.server_process import Server, serve
from tests.sinks.receivers import free_port
from tests.videos import walk

PASSWORD = "geheim-7"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[RtspSource]:
    if not is_installed():
        pytest.skip(MISSING)
    film = Film.encode(tmp_path / "walk.h264", walk(4) * 5, key_every=5)
    with running(RtspSource(free_port(), [Mount("/door", film)], tmp_path / "rtsp.log", "user", PASSWORD)) as found:
        yield found


def decoders(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in children if "camera_decoder" in " ".join(process.cmdline())]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_its_password_stays_hidden_it_comes_back_and_no_process_is_left(source: RtspSource, tmp_path: Path) -> None:
    address = source.url("/door")
    secret = address.replace("://", f"://user:{PASSWORD}@")
    answers = []
    with (
        serve(state_dir=str(tmp_path / "state"), camera_sources="rtsp://127.0.0.1", workers="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        answers.append(add(client, secret, rules=RULES))
        until(lambda: status(client)["frames"] >= 3)
        until(lambda: status(client)["people"] == 1)
        [first] = decoders(server)
        commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
        source.kill()
        until(lambda: "nothing listens" in (status(client)["detail"] or ""))
        answers.append(client.get("/v1/cameras/door").json())
        assert answers[-1]["status"]["state"] == "waiting"
        assert answers[-1]["status"]["reconnects"] >= 1
        frames = status(client)["frames"]
        source.start()
        until(lambda: status(client)["frames"] > frames and status(client)["state"] == "live")

        wrong = client.patch("/v1/cameras/door", json={"source": secret.replace(PASSWORD, "wrong-8")})
        assert wrong.status_code == 200
        until(lambda: status(client)["state"] == "waiting")
        answers.append(client.get("/v1/cameras/door").json())
        assert "rejects the user or the password (401)" in answers[-1]["status"]["detail"]
        assert gone(first)

        assert client.patch("/v1/cameras/door", json={"source": secret}).status_code == 200
        until(lambda: status(client)["frames"] >= 1)
        [second] = decoders(server)
        assert client.delete("/v1/cameras/door").status_code == 204
        assert gone(second)
        answers += [add(client, secret), add(client, secret, "gate")]
        until(lambda: status(client)["frames"] >= 1)
        source.kill()  # a process that waits for its camera must end as well
        last = decoders(server)
        assert len(last) == 2
        server.process.send_signal(signal.SIGKILL)
        until(lambda: all(map(gone, last)))
    seen = json.dumps([answers, commands, server.log])
    assert address in seen
    assert PASSWORD not in seen
    assert "wrong-8" not in seen


def test_memory_does_not_grow_with_reconnects(tmp_path: Path) -> None:
    if not is_installed():
        pytest.skip(MISSING)
    large = [cv2.resize(frame, (1920, 1080)) for frame in walk(4)]
    film = Film.encode(tmp_path / "large.h264", [np.asarray(frame, np.uint8) for frame in large] * 5, key_every=5)
    memory: list[float] = []
    wanted: list[int] = []
    with (
        running(RtspSource(free_port(), [Mount("/door", film)], tmp_path / "rtsp.log")) as source,
        serve(state_dir=str(tmp_path / "state"), camera_sources="rtsp://127.0.0.1", workers="1") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        add(client, source.url("/door"))
        for _ in range(6):
            wanted.append(status(client)["frames"] + 10)
            until(lambda: status(client)["frames"] > wanted[-1] and status(client)["state"] == "live")
            [decoder] = decoders(server)
            memory.append(decoder.memory_info().rss / 2**20)
            source.kill()
            source.start()
    assert max(memory) < memory[0] + 50, memory  # one decoder of this size has more


def test_no_process_is_left_after_sigterm(source: RtspSource, tmp_path: Path) -> None:
    with serve(state_dir=str(tmp_path / "state"), camera_sources="rtsp://127.0.0.1", workers="1") as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            add(client, source.url("/door").replace("://", f"://user:{PASSWORD}@"))
            until(lambda: status(client)["frames"] >= 1)
        [decoder] = decoders(server)
        source.signal(signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert gone(decoder)
