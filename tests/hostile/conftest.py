"""One real service for all hostile tests, which none of them may harm."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests.hostile.images import sources
from loadtests.processes import Server as Watched
from loadtests.wire import Target
from tests.server_process import serve

# Requests at a time: more than there are workers, so that a damaged input has company.
SIDE_BY_SIDE = 4


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is under attack."""

    target: Target
    watched: Watched

    def send(self, path: str, body: bytes | None, content_type: str = "") -> tuple[int, str, bytes]:
        """Status, media type and body of the answer, on a connection of its own."""
        connection = HTTPConnection(self.target.host, self.target.port, timeout=120)
        try:
            connection.request("GET" if body is None else "POST", path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    def people(self) -> Any:
        """What a good image is answered with, without the request's id and its times."""
        status, _, body = self.send("/v1/pose", sources()["png"], "image/png")
        assert status == 200, body
        [image] = json.loads(body)["images"]
        return image["people"], image["width"], image["height"]

    def workers(self) -> list[int]:
        return [process.pid for process in self.watched.workers()]

    def deaths(self) -> float:
        families = text_string_to_metric_families(self.send("/metrics", None)[2].decode())
        return sum(s.value for f in families for s in f.samples if s.name == "posewire_worker_deaths_total")


@pytest.fixture(scope="session")
def running() -> Iterator[Service]:
    with serve(workers="1", max_videos="4", camera_sources="/nowhere") as server:
        yield Service(Target.of(server.url), Watched(psutil.Process(server.process.pid), server.url))


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The service; after the test it has the same processes, is ready, and gives the same answer as before."""
    before, workers = running.people(), running.workers()
    assert workers
    yield running
    assert running.workers() == workers
    assert running.deaths() == 0
    assert running.send("/readyz", None)[0] == 200
    assert running.people() == before


@pytest.fixture(scope="session")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield pool
