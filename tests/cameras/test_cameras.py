"""Cameras of a real service: added over HTTP, watched, killed, and there again."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from tests.mjpeg import MjpegCamera, running_camera
from tests.server_process import Server, serve
from tests.sinks.receivers import Hook, running
from tests.videos import walk, write_video

RULES = [{"kind": "zone", "name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]


@pytest.fixture(scope="module")
def camera() -> Iterator[MjpegCamera]:
    """Ends each connection after fifteen frames, so that it is lost again and again."""
    with running_camera(frames=15) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("state")
    places = {"camera_sources": f"http://127.0.0.0/8,{state.parent}", "camera_sinks": f"http://127.0.0.0/8,{state.parent}"}
    with serve(state_dir=str(state), max_cameras="3", workers="1", **places) as found:
        until(lambda: httpx.get(f"{found.url}/readyz").status_code == 200)
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as found:
        yield found
        for one in found.get("/v1/cameras").json()["cameras"]:
            assert found.delete(f"/v1/cameras/{one['name']}").status_code == 204


def until(reached: Callable[[], bool], within_s: float = 90) -> None:
    end = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


def add(client: httpx.Client, source: str, name: str = "door", **fields: object) -> dict[str, Any]:
    answer = client.post("/v1/cameras", json={"name": name, "source": source, **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def status(client: httpx.Client, name: str = "door") -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/cameras/{name}").json()["status"]
    return found


def test_a_camera_is_watched_lost_and_watched_again(client: httpx.Client, camera: MjpegCamera) -> None:
    added = add(client, camera.url, rules=RULES)
    assert "secret" not in json.dumps(added)
    assert added["credentials"] is True
    assert added["source"] == f"http://127.0.0.1:{camera.server_port}/video"
    until(lambda: status(client)["reconnects"] >= 1 and status(client)["frames"] >= 3)
    before = status(client)["frames"]
    until(lambda: status(client)["frames"] > before and status(client)["state"] == "live")
    assert status(client)["people"] == 1
    metrics = client.get("/metrics").text
    assert 'posewire_camera_state{camera="door",state="live"} 1.0' in metrics
    assert 'posewire_camera_frames_total{camera="door",outcome="ok"}' in metrics


def test_events_and_results_come_over_http_and_websocket(client: httpx.Client, server: Server, camera: MjpegCamera) -> None:
    add(client, camera.url, rules=RULES)
    with connect(f"{server.url.replace('http', 'ws')}/v1/cameras/door/events") as socket:
        messages: list[dict[str, Any]] = []
        while {m["type"] for m in messages} != {"frame", "event"}:
            messages.append(json.loads(socket.recv(60)))
    entered = next(m for m in messages if m["type"] == "event")
    assert (entered["event"], entered["rule"]) == ("entered", "all")
    with client.stream("GET", "/v1/cameras/door/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        kind = next(line for line in lines if line.startswith("event:"))
        data = next(line for line in lines if line.startswith("data:"))
    assert kind == "event: result"
    assert json.loads(data.removeprefix("data: "))["people"]


def read_events(client: httpx.Client, count: int, rules: Set[str] = frozenset(), **request: Any) -> list[tuple[str, dict[str, Any]]]:
    """The ids and messages of the first events of all cameras: `count` of them or more, with an event of each of the rules."""
    found: list[tuple[str, dict[str, Any]]] = []
    with client.stream("GET", "/v1/cameras/events", **request) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if name == "data":
                assert fields["event"] == "event"
                found.append((fields["id"], json.loads(value)))
            if len(found) >= count and rules <= {message["message"]["rule"] for _, message in found}:
                break
    return found


def test_events_of_all_cameras_come_on_one_connection_and_none_twice(client: httpx.Client, camera: MjpegCamera) -> None:
    for name in ("left", "right"):
        add(client, camera.url, name, rules=[{**RULES[0], "name": f"{name}-all"}])
    read_events(client, 2, {"left-all", "right-all"}, params={"recent": 200})
    client.patch("/v1/cameras/left", json={"rules": [{**RULES[0], "name": "left-again"}]})  # its people leave, and enter again
    events = read_events(client, 3, {"left-all", "right-all", "left-again"}, params={"recent": 200})
    assert {message["camera"] for _, message in events} >= {"left", "right"}
    assert all(set(message) == {"camera", "time", "message"} for _, message in events)
    ids = [number for number, _ in events]
    assert len(set(ids)) == len(ids)
    # A reader that was away goes on after the last event that it knows; one that knows an event of another process gets those asked for.
    assert read_events(client, len(ids) - 1, headers={"Last-Event-ID": ids[0]})[: len(ids) - 1] == events[1:]
    assert read_events(client, 1, params={"recent": 200}, headers={"Last-Event-ID": "0-1"})[0] == events[0]
    assert client.get("/v1/cameras/events", params={"recent": 201}).status_code == 422


def test_live_images_and_a_snapshot_show_the_skeleton(client: httpx.Client, camera: MjpegCamera) -> None:
    add(client, camera.url)
    snapshot = client.get("/v1/cameras/door/snapshot")
    assert snapshot.headers["content-type"] == "image/jpeg"
    drawn = cv2.imdecode(np.frombuffer(snapshot.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    assert drawn.shape == (320, 320, 3)
    with client.stream("GET", "/v1/cameras/door/live") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=posewire-frame"
        data = b""
        for chunk in answer.iter_bytes():
            data += chunk
            if data.count(b"--posewire-frame") >= 3:
                break
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(head.rpartition(b": ")[2])
    assert cv2.imdecode(np.frombuffer(rest[:length], np.uint8), cv2.IMREAD_COLOR) is not None


def test_a_process_of_a_camera_that_dies_is_replaced(client: httpx.Client, server: Server, camera: MjpegCamera) -> None:
    add(client, camera.url)
    until(lambda: status(client)["frames"] >= 1)
    [decoder] = [p for p in psutil.Process(server.process.pid).children() if "camera_decoder" in " ".join(p.cmdline())]
    assert "secret" not in " ".join(decoder.cmdline())
    before = status(client)["frames"]
    decoder.kill()
    until(lambda: status(client)["frames"] > before + 1 and status(client)["state"] == "live")


def test_a_file_ends_and_its_people_leave(client: httpx.Client, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    video = write_video(folder / "walk.mp4", walk(12))
    lines = folder / "lines.ndjson"
    add(client, str(video), rules=RULES, sinks=[{"kind": "file", "path": str(lines), "send": ["event", "state"]}])
    until(lambda: status(client)["state"] == "ended")
    until(lambda: "left" in lines.read_text())
    messages = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [m["message"]["event"] for m in messages if m["kind"] == "event"] == ["entered", "left"]
    assert {m["camera"] for m in messages} == {"door"}


def test_a_webhook_gets_events(client: httpx.Client, camera: MjpegCamera) -> None:
    hook = Hook()
    with running(hook):
        sink = {"kind": "webhook", "url": f"http://127.0.0.1:{hook.port}/in", "secret": "hidden"}
        shown = add(client, camera.url, rules=RULES, sinks=[sink])
        assert "hidden" not in json.dumps(shown)
        until(lambda: bool(hook.requests))
    assert hook.messages[0]["message"]["event"] == "entered"
    assert "x-posewire-signature" in hook.requests[0][0]


def test_a_change_connects_anew_and_keeps_the_password(client: httpx.Client, camera: MjpegCamera) -> None:
    add(client, camera.url)
    until(lambda: status(client)["frames"] >= 1)
    body = {"fps": 5, "source": f"http://127.0.0.1:{camera.server_port}/video"}
    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(client.patch, "/v1/cameras/door", json=body)
        while not changing.done():
            assert client.get("/v1/cameras/door").status_code == 200  # it is there all the time
        changed = changing.result().json()
    assert (changed["fps"], changed["credentials"]) == (5, True)
    until(lambda: status(client)["frames"] >= 1)
    off = client.patch("/v1/cameras/door", json={"enabled": False}).json()
    assert off["status"]["state"] == "off"
    assert client.get("/v1/cameras/door/snapshot").status_code == 503


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({"name": "x", "source": "http://192.168.0.1/x"}, 403, "POSEWIRE_CAMERA_SOURCES"),
        ({"name": "x", "source": "/etc/passwd"}, 403, "POSEWIRE_CAMERA_SOURCES"),
        ({"name": "x", "source": "ftp://127.0.0.1/x"}, 422, "source"),
        (
            {"name": "x", "source": "http://127.0.0.1/x", "sinks": [{"kind": "webhook", "url": "http://169.254.169.254/x"}]},
            403,
            "POSEWIRE_CAMERA_SINKS",
        ),
        ({"name": "x", "source": "http://127.0.0.1/x", "sinks": [{"kind": "file", "path": "/etc/cron.d/x"}]}, 403, "POSEWIRE_CAMERA_SINKS"),
        ({"name": "x", "source": "http://127.0.0.1/x", "sinks": [{"kind": "file", "path": "x"}]}, 422, "absolute path"),
        ({"name": "X y", "source": "/a"}, 422, "name"),
        ({"name": "events", "source": "http://127.0.0.1/x"}, 422, "path of the API"),
        ({"name": "x", "source": "http://127.0.0.1/x", "rules": [{"kind": "zone", "name": "z", "polygon": []}]}, 422, "polygon"),
        ({"name": "x", "source": "http://127.0.0.1/x", "rules": [*RULES, *RULES]}, 422, "two rules"),
        (
            {"name": "x", "source": "http://127.0.0.1/x", "rules": [{"kind": "repetition", "name": "r", "joint": ["a", "b", "c"]}]},
            422,
            "keypoint",
        ),
        ({"name": "x", "source": "http://127.0.0.1/x", "sinks": [{"kind": "pigeon"}]}, 422, "pigeon"),
        (
            {
                "name": "x",
                "source": "http://127.0.0.1/x",
                "sinks": [{"kind": "webhook", "url": f"http://{user}127.0.0.1/in"} for user in ("", "user:password@")],
            },
            422,
            "two sinks have the same address",
        ),
    ],
)
def test_a_bad_camera_is_refused_and_not_kept(client: httpx.Client, body: dict[str, Any], code: int, text: str) -> None:
    answer = client.post("/v1/cameras", json=body)
    assert answer.status_code == code
    assert text in answer.json()["detail"]
    assert client.get("/v1/cameras").json()["cameras"] == []


def test_a_service_without_cameras_makes_no_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serve(state_dir=str(state), camera_sources="/nowhere", workers="0") as server, httpx.Client(base_url=server.url) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/cameras", json={"name": "x", "source": "/etc/passwd"}).status_code == 403
        assert client.delete("/v1/cameras/x").status_code == 404
        assert client.get("/v1/cameras").json() == {"cameras": []}
    assert not state.exists()


def test_names_and_numbers_are_limited(client: httpx.Client, camera: MjpegCamera) -> None:
    for name in ("a", "b", "c"):
        add(client, camera.url, name, enabled=False)
    again = client.post("/v1/cameras", json={"name": "a", "source": camera.url})
    assert (again.status_code, again.json()["type"]) == (409, "urn:posewire:problem:camera-exists")
    fourth = client.post("/v1/cameras", json={"name": "d", "source": camera.url})
    assert (fourth.status_code, "POSEWIRE_MAX_CAMERAS" in fourth.json()["detail"]) == (503, True)
    for method in ("GET", "PATCH", "DELETE"):
        missing = client.request(method, "/v1/cameras/nobody", json={} if method == "PATCH" else None)
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:posewire:problem:no-such-camera")


def test_cameras_go_on_after_kill_9_and_a_second_service_waits(tmp_path: Path, camera: MjpegCamera) -> None:
    start = partial(serve, state_dir=str(tmp_path), camera_sources="*", workers="1")
    with start() as first, httpx.Client(base_url=first.url, timeout=60) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        add(client, camera.url)
        until(lambda: status(client)["frames"] >= 1)
        with start() as second, httpx.Client(base_url=second.url, timeout=60) as other:
            until(lambda: other.get("/readyz").status_code == 200)
            until(lambda: other.get("/v1/cameras").status_code == 503)
            assert "another process" in other.get("/v1/cameras").json()["detail"]
            first.process.send_signal(signal.SIGKILL)
            until(lambda: other.get("/v1/cameras").status_code == 200)
            until(lambda: status(other)["frames"] >= 1)
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(30) == 0
    assert "secret" not in json.dumps([first.log, second.log])


def command(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "posewire", "cameras", *arguments, "--url", server.url], check=False, capture_output=True, text=True
    )


def test_the_command_adds_lists_and_removes(server: Server, client: httpx.Client, camera: MjpegCamera, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(RULES))
    added = command(server, "add", "door", camera.url, "--rules", str(rules), "--fps", "5")
    assert added.returncode == 0, added.stderr
    assert client.get("/v1/cameras/door").json()["rules"][0]["name"] == "all"
    listed = command(server, "list")
    assert "door" in listed.stdout
    assert "secret" not in listed.stdout
    assert json.loads(command(server, "list", "--json").stdout)["cameras"][0]["fps"] == 5
    again = command(server, "add", "door", camera.url)
    assert (again.returncode, "a camera is called 'door'" in again.stderr) == (1, True)
    assert command(server, "remove", "door").returncode == 0
    assert "no camera is called 'door'" in command(server, "remove", "door").stderr
    assert "no cameras" in command(server, "list").stdout


def test_the_command_says_that_no_service_answers() -> None:
    nowhere = [sys.executable, "-m", "posewire", "cameras", "list", "--url", "http://127.0.0.1:9"]
    found = subprocess.run(nowhere, check=False, capture_output=True, text=True)
    assert found.returncode == 1
    assert "does not answer" in found.stderr
    assert "Traceback" not in found.stderr
