"""What the routes share, made once by `create_app`."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from posewire.config import Settings
from posewire.engine.engine import Engine
from posewire.server.access_log import AccessLog
from posewire.server.admission import Admission
from posewire.server.keys import KeyRing
from posewire.server.rate_limit import RateLimit
from posewire.server.stream_slots import Streams
from posewire.telemetry.metrics import Metrics


@dataclass(slots=True)
class Services:
    """The running service; `draining` and `videos` are all that changes in it."""

    settings: Settings
    metrics: Metrics
    admission: Admission
    access_log: AccessLog
    rate_limit: RateLimit
    streams: Streams
    keys: KeyRing | None  # None: everyone is let in
    engine: Engine | None = None  # None until the lifespan has loaded it
    draining: bool = False
    videos: int = 0  # that are uploaded or worked on

    @property
    def ready(self) -> bool:
        """Whether a request sent now would be answered."""
        return self.engine is not None and self.engine.ready and not self.draining


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that a request came to."""
    services: Services = connection.app.state.services
    return services
