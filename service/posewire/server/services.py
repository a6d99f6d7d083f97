"""The objects that all routes share. `create_app` makes them once."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from posewire.cameras.cameras import Cameras
from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.server.auth import KeyRing
from posewire.server.limits import Admission, ByteBudget, RateLimit, StreamSlots
from posewire.server.peers import Peers
from posewire.telemetry.metrics import Metrics


@dataclass(slots=True)
class Services:
    """The running service. Only `engine`, `loading`, `drain` and what is about videos change after the start."""

    settings: Settings
    metrics: Metrics
    admission: Admission
    rate_limit: RateLimit
    body_bytes: ByteBudget
    streams: StreamSlots
    cameras: Cameras
    peers: Peers
    keys: KeyRing | None  # None: no key is needed
    engine: Engine | None = None  # None until the lifespan has loaded and started it
    loading: asyncio.Task[None] | None = None  # loads and starts the engine; None before the lifespan
    drain: asyncio.Event = field(default_factory=asyncio.Event)  # set on the event loop when the service begins to stop; for good
    videos: int = 0  # videos that are being processed
    uploads: Counter[str] = field(default_factory=Counter)  # videos that are being uploaded, by client
    unread_videos: dict[asyncio.Timeout, float] = field(default_factory=dict)  # answers that wait for their readers, and since when

    @property
    def draining(self) -> bool:
        """True from the beginning of a drain on."""
        return self.drain.is_set()

    @property
    def ready(self) -> bool:
        """True if a request sent now would be answered."""
        return self.engine is not None and self.engine.ready and not self.draining


def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the application that a request came to."""
    services: Services = connection.app.state.services
    return services
