"""`posewire serve` whose worker processes are stopped: it says so, replaces them, and ends when told."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from posewire.engine.ipc import AVAILABLE
from tests.sample_images import ASTRONAUT
from tests.server_process import Server, serve

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs Linux's memory files")


def workers(server: Server) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


@contextmanager
def ended_afterwards() -> Iterator[Callable[[int], None]]:
    """A function that stops a process; those that are still there in the end are killed, for they would keep the log open."""
    stopped: list[psutil.Process] = []

    def stop(pid: int) -> None:
        stopped.append(psutil.Process(pid))
        stopped[-1].suspend()

    try:
        yield stop
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "it does not come about"
        time.sleep(0.05)


def test_a_service_whose_workers_are_stopped_is_not_ready_until_it_has_others() -> None:
    settings = {"device": "cpu", "workers": "2", "max_batch": "1", "request_timeout_ms": "2000"}
    with serve(**settings) as server, ended_afterwards() as stop, httpx.Client(timeout=60) as client:
        before = workers(server)
        assert len(before) == 2
        for pid in before:
            stop(pid)
        until(lambda: client.get(f"{server.url}/readyz").status_code == 503)
        answer = client.get(f"{server.url}/readyz")
        if answer.status_code == 503:  # else they have been replaced meanwhile
            assert "stopped" in answer.json()["detail"]
        assert client.get(f"{server.url}/livez").status_code == 200
        until(lambda: client.get(f"{server.url}/readyz").status_code == 200)
        until(lambda: len(workers(server)) == 2)
        assert not workers(server) & before
        answer = client.post(f"{server.url}/v1/pose", content=ASTRONAUT.read_bytes(), headers={"Content-Type": "image/jpeg"})
        assert answer.status_code in {200, 504}  # 504: on a slow machine
        stop(next(iter(workers(server))))
        server.process.terminate()
        assert server.process.wait(30) == 0
