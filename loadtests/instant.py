"""The service over an engine without models: `python -m loadtests.instant --port PORT [--full]`.

Every image is answered at once with the same person, or, with `--full`, never: what the server takes is the service's own work.
"""

import asyncio
import sys
from types import SimpleNamespace
from typing import cast

import numpy as np
import uvicorn

from posewire.config import load_settings
from posewire.engine.engine import Engine
from posewire.registry.specs import PoseSpec
from posewire.registry.store import open_store
from posewire.server.app import create_app
from posewire.server.http_server import server_config
from posewire.telemetry.logs import configure_logging
from posewire.telemetry.metrics import Metrics
from posewire.types import Keypoints, Pose, PoseOptions, PoseResult


class InstantEngine:
    """The part of an engine that the HTTP API uses.

    Args:
        full: hold every image for ever, so that the service is full.
    """

    alive = ready = True

    def __init__(self, *, full: bool) -> None:
        self.settings = load_settings(max_in_flight=1) if full else load_settings()
        self.metrics = Metrics()
        manifest = open_store(self.settings).manifest
        self.detector = SimpleNamespace(spec=manifest.default("detector"))
        spec = manifest.default("pose")
        assert isinstance(spec, PoseSpec)
        self.pose = SimpleNamespace(spec=spec)
        joints = len(spec.keypoints.names)
        xy = np.random.default_rng(0).uniform(0, 500, (joints, 2)).astype(np.float32)
        person = Pose(np.array([70.1, 5.2, 300.3, 500.4], np.float32), 0.9, Keypoints(xy, np.full(joints, 0.7, np.float32)))
        self._answer = PoseResult(512, 512, (person,))
        self._full = full

    async def start(self) -> None:
        """As the engine's."""

    async def close(self) -> None:
        """As the engine's."""

    async def estimate(self, data: bytes, options: PoseOptions, *, deadline: float) -> PoseResult:  # noqa: ARG002 - the engine's
        """The one answer, or none."""
        if self._full:
            await asyncio.Event().wait()
        return self._answer


if __name__ == "__main__":
    configure_logging("info", sys.stdout)
    engine = InstantEngine(full="--full" in sys.argv)
    config = server_config(create_app(engine.settings, cast(Engine, engine)), engine.settings)
    config.port = int(sys.argv[sys.argv.index("--port") + 1])
    uvicorn.Server(config).run()
