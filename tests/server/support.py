"""What the tests of the HTTP API share: a running app, models that can be held or broken, bodies, and checks."""

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from posewire.engine.engine import Engine
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.server.services import Services
from posewire.types import FloatArray, Keypoints, UInt8Array

JPEG = {"Content-Type": "image/jpeg"}
PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=XX"}

Part = tuple[str, str | None, bytes]  # name, filename, content


class Gate:
    """Where every run of a model passes: it may be held there, or made to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def pass_through(self) -> None:
        """On the model's thread."""
        self.entered.set()
        assert self._open.wait(60), "the gate was never opened"
        if self.error is not None:
            raise self.error

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Hold every run until the block ends."""
        self.entered.clear()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    async def someone_waits(self) -> None:
        """Until a run has come to the gate since it was shut."""
        assert await asyncio.to_thread(self.entered.wait, 60), "no run came to the gate"


class GatedDetector(Detector):
    """A real detector behind a gate."""

    def __init__(self, model: Detector, gate: Gate) -> None:
        super().__init__(model.spec, model.session)
        self._gate = gate

    def infer(self, batch: Sequence[UInt8Array], *, exclusive: bool = False) -> list[FloatArray]:
        self._gate.pass_through()
        return super().infer(batch, exclusive=exclusive)


class GatedPose(PoseEstimator):
    """A real pose model behind a gate."""

    def __init__(self, model: PoseEstimator, gate: Gate) -> None:
        super().__init__(model.spec, model.session)
        self._gate = gate

    def infer(self, batch: Sequence[UInt8Array]) -> list[Keypoints]:
        self._gate.pass_through()
        return super().infer(batch)


@dataclass(frozen=True, slots=True)
class Api:
    """A running app and a client of it."""

    app: FastAPI
    engine: Engine
    client: httpx.AsyncClient

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def post(
        self,
        content: bytes | AsyncIterator[bytes],
        headers: dict[str, str] | None = None,
        **query: object,
    ) -> httpx.Response:
        """POST /v1/pose; a JPEG unless the headers say otherwise."""
        params = {k: str(v) for k, v in query.items()}
        return await self.client.post("/v1/pose", content=content, headers=JPEG | (headers or {}), params=params)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels, as /metrics tells them."""
        families = text_string_to_metric_families((await self.client.get("/metrics")).text)
        found = [s.value for f in families for s in f.samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"/metrics has no {name} {labels}"
        return sum(found)

    async def in_flight(self) -> float:
        """Images that hold a place."""
        return await self.metric("posewire_pictures_in_flight")

    async def runs(self, model: str) -> float:
        """Runs of a model for callers; the warm-up's are not counted."""
        return await self.metric("posewire_batch_size_count", model=model)


StartApi = Callable[..., Awaitable[Api]]

# Returns the log's lines with a message, as `posewire serve` writes them.
LogLines = Callable[[str], list[dict[str, Any]]]


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Until what another task does has shown; each look lets that task run."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - what is awaited shows only in the app's answers
            await asyncio.sleep(0.002)


async def all_queued(api: Api, images: int) -> None:
    """Until the engine's scheduler has accepted so many images that are not finished."""

    async def all_pending() -> bool:
        return api.engine.pending == images

    await eventually(all_pending)


def people_of(answer: httpx.Response, image: int = 0) -> list[dict[str, Any]]:
    """Everyone in one image of a good answer."""
    assert answer.status_code == 200, answer.text
    people: list[dict[str, Any]] = answer.json()["images"][image]["people"]
    return people


def xy_of(person: dict[str, Any]) -> FloatArray:
    """(K, 2) float32, pixels."""
    return np.array([(k["x"], k["y"]) for k in person["keypoints"]], np.float32)


def assert_problem(answer: httpx.Response, status: int, slug: str, says: str = "", *, image: int | None = None) -> None:
    """It is a whole RFC 9457 problem of that kind, whose detail has the words of `says`."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    detail = body.pop("detail")
    assert body.pop("title")
    assert detail.isprintable(), detail  # so it is one line
    assert detail.strip()
    assert says in detail
    expected = {"type": f"urn:posewire:problem:{slug}", "status": status, "request_id": answer.headers["X-Request-Id"]}
    assert body == expected | ({} if image is None else {"image": image})


def assert_overloaded(answer: httpx.Response) -> None:
    """The request was refused because the service is full, with a time after which to try again."""
    assert_problem(answer, 503, "overloaded", "try again")
    assert answer.headers["Retry-After"].isdigit()
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


async def hold(api: Api, image: bytes, requests: int) -> list[asyncio.Task[httpx.Response]]:
    """Requests of one image that hold their places."""
    tasks = [asyncio.create_task(api.post(image)) for _ in range(requests)]

    async def all_hold() -> bool:
        return await api.in_flight() == requests

    await eventually(all_hold)
    return tasks


def multipart(*parts: Part) -> bytes:
    """A multipart body, by hand: the boundary is XX."""
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        body += f"--XX\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + b"--XX--\r\n"


def images(*files: bytes) -> bytes:
    """A multipart body of images."""
    return multipart(*[("image", f"{i}.jpg", file) for i, file in enumerate(files)])


def json_body(*images: bytes, boxes: object = None) -> bytes:
    """A JSON body; `boxes` stand beside every image."""
    extra = {} if boxes is None else {"boxes": boxes}
    return json.dumps({"images": [{"base64": base64.b64encode(p).decode(), **extra} for p in images]}).encode()


async def chunks(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A body without a length."""
    for piece in pieces:
        yield piece
