"""Fixtures for every test: the shipped models, opened once, and apps over them in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest

from posewire.config import load_settings
from posewire.engine.engine import Engine, load_engine
from posewire.engine.gpu_scheduler import GpuScheduler
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.server.app import create_app
from posewire.telemetry.metrics import Metrics
from posewire.types import UInt8Array
from tests import sample_images
from tests.server.streaming import Listen, Listening, listening
from tests.server.support import Api, StartApi

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def models() -> Engine:
    """The shipped models: take `detector`, `pose` and `plan`; the engine itself is never started."""
    return load_engine(load_settings({}), Metrics())


@pytest.fixture
def make_engine(models: Engine) -> MakeEngine:
    """An engine over the opened models: cheap. Settings by name.

    Unless told: batches of one, so that the warm-up is short; and people of at least 0.5, between the astronaut's 0.72
    and the 0.33 that the detector gives her background. With `batched` the scheduler is a GPU's, over the CPU.
    """

    def make(
        *,
        detector: Detector | None = None,
        pose: PoseEstimator | None = None,
        workers: int | None = None,
        batched: bool = False,
        **settings: object,
    ) -> Engine:
        plan = models.plan if workers is None else replace(models.plan, workers=workers)
        chosen, metrics = load_settings({}, **({"max_batch": 1, "min_detection_score": 0.5} | settings)), Metrics()
        detector, pose = detector or models.detector, pose or models.pose
        pipeline = PosePipeline(detector, pose, max_bytes=chosen.max_bytes, max_pixels=chosen.max_pixels)
        scheduler = GpuScheduler(pipeline, plan, chosen, metrics) if batched else None
        return Engine(detector, pose, plan, chosen, metrics, scheduler)

    return make


@pytest.fixture
def on_a_port(request: pytest.FixtureRequest) -> bool:
    """Whether apps are served by the service's own server, on a port; else their client calls them by ASGI."""
    return bool(getattr(request, "param", False))


@pytest.fixture
async def start_api(make_engine: MakeEngine, on_a_port: bool) -> AsyncIterator[StartApi]:
    """Start an app over `make_engine`'s engine, with its lifespan; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> Api:
            engine = make_engine(**options)
            if on_a_port:
                server = await stack.enter_async_context(listening(engine))
                client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=60))
                return Api(server.app, engine, client)
            app = create_app(engine.settings, engine)
            await stack.enter_async_context(app.router.lifespan_context(app))
            transport = httpx.ASGITransport(app)
            return Api(app, engine, await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://posewire")))

        yield start


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """An app with the default settings."""
    return await start_api()


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    """A JPEG of one person, 512 x 512."""
    return sample_images.ASTRONAUT.read_bytes()


@pytest.fixture(scope="session")
def astronaut_pixels() -> UInt8Array:
    """(512, 512, 3) uint8, RGB: the same image."""
    return sample_images.astronaut()


@pytest.fixture(scope="session")
def landscape() -> bytes:
    """A PNG of nobody, 640 x 480."""
    return sample_images.encode(sample_images.landscape(), ".png")


@pytest.fixture
async def listen(make_engine: MakeEngine) -> AsyncIterator[Listen]:
    """Start a server on a port, over `make_engine`'s engine; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(port: int = 0, **options: object) -> Listening:
            return await stack.enter_async_context(listening(make_engine(**options), port))

        yield start
