"""The application: the only place where the parts of the server are wired together."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from operator import attrgetter

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from posewire import __version__
from posewire.cameras.cameras import Cameras
from posewire.config import Settings
from posewire.engine.engine import Engine, load_engine
from posewire.engine.pool import settle
from posewire.schemas.inference_protocol import JSON_LENGTH
from posewire.server import asyncapi, cameras, demo, inference_protocol, ops, pose, pose_aliases, problems, stream, video, webrtc
from posewire.server.auth import Access, KeyRing
from posewire.server.headers import REQUEST_ID, RETRY_AFTER, TRACEPARENT
from posewire.server.limits import Admission, ByteBudget, RateLimit, StreamSlots
from posewire.server.middleware import RequestContext
from posewire.server.openapi import SERVERS, TAGS, DocumentedApp
from posewire.server.peers import Peers
from posewire.server.services import Services
from posewire.telemetry.lag import watch_event_loop
from posewire.telemetry.metrics import Metrics

# Pages of other sites may send and see these.
_CORS_METHODS = ("GET", "POST", "PATCH", "DELETE")
_CORS_REQUEST_HEADERS = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "If-Match",
    REQUEST_ID,
    "X-Request-Timeout-Ms",
    TRACEPARENT,
    JSON_LENGTH,
)
_CORS_ANSWER_HEADERS = (REQUEST_ID, RETRY_AFTER, "ETag", "Location", JSON_LENGTH)

# Swagger UI's column of links, of which there are none, makes the page wider than a phone.
_DOCS_STYLE = ".swagger-ui .response-col_links { display: none }"


log = logging.getLogger(__name__)


def create_app(settings: Settings, engine: Engine | None = None, *, load: Callable[[Metrics], Engine] | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        settings: of the service.
        engine: loaded, not yet started; None: the lifespan loads it.
        load: loads the engine in the background, and may block. Meanwhile the application answers: what needs the models with 503.
            `Services.loading` is the task, whose error the server must look for. None: the lifespan begins when the engine is ready.

    Raises:
        ConfigError: the file of API keys cannot be read or is wrong.

    Raises (from the lifespan, without `load`):
        ModelError, DeviceError: as `load_engine`.
    """
    metrics = engine.metrics if engine else Metrics()
    services = Services(
        settings,
        metrics,
        Admission(settings.max_in_flight, metrics),
        RateLimit(settings.rate_limit, settings.rate_burst),
        ByteBudget(settings.max_bytes_in_flight, metrics),
        StreamSlots(settings.max_streams, settings.max_streams_per_client, metrics),
        Cameras(settings, metrics),
        Peers(settings.max_webrtc_sessions),
        KeyRing(settings.api_keys_file) if settings.api_keys_file else None,
        engine,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        services.loading = asyncio.create_task(_load(services, load or partial(load_engine, settings)), name="load-models")
        watch = asyncio.create_task(_watch_event_loop(services.loading, metrics), name="event-loop-lag")
        try:
            if load is None:
                await services.loading
            yield
        finally:
            watch.cancel()
            services.loading.cancel()
            await asyncio.gather(services.loading, return_exceptions=True)
            await services.peers.close()
            await services.cameras.close()
            if services.engine is not None:
                await services.engine.close()

    app = DocumentedApp(
        title="Posewire",
        version=__version__,
        summary="Real-time human pose estimation",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=TAGS,
        servers=SERVERS,
        root_path_in_servers=False,
        generate_unique_id_function=attrgetter("name"),  # an operation's id is the name of its function, unless the route has one
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # we have our own
        redirect_slashes=False,  # a client should not send its image twice because of a slash
    )
    app.state.services = services
    # Each is around those before it. So every rejection has a request id and its headers, and pages of other sites may read it.
    app.add_middleware(pose.PoseEndpoint, services=services)
    app.add_middleware(Access, keys=services.keys, origins=settings.origins, hosts=settings.hosts, metrics=metrics)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
        )
    app.add_middleware(RequestContext, services=services)
    app.add_middleware(inference_protocol.ProtocolErrors)
    problems.install(app, metrics)
    images = (pose.router, pose_aliases.router, inference_protocol.router)
    for router in (*images, video.router, cameras.router, webrtc.router, stream.router, ops.router):
        app.include_router(router)
    if settings.ops_port is None:
        app.include_router(ops.health)
    asyncapi.install(app)
    demo.install(app, cameras=settings.max_cameras > 0)
    _add_docs(app)
    return app


async def _watch_event_loop(loading: asyncio.Task[None], metrics: Metrics) -> None:
    """Observe the lag once the models are loaded: the thread that loads them holds up the loop."""
    await asyncio.wait([loading])
    await watch_event_loop(metrics)


async def _load(services: Services, load: Callable[[Metrics], Engine]) -> None:
    """Load the engine unless it is there, and start it; the services have it when it is ready."""
    started = time.monotonic()
    engine = services.engine or await _on_daemon_thread(partial(load, services.metrics))
    try:
        await engine.start()
    except BaseException:
        await engine.close()
        raise
    services.engine = engine
    await services.cameras.start(engine)
    log.info("the models are ready", extra={"seconds": round(time.monotonic() - started, 2)})


async def _on_daemon_thread(function: Callable[[], Engine]) -> Engine:
    """Run a function that cannot be interrupted. The end of the process does not wait for it: a stop may come while models are opened."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Engine] = loop.create_future()

    def run() -> None:
        try:
            result: Engine | BaseException = function()
        except BaseException as error:
            result = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, done, result)

    threading.Thread(target=run, name="posewire-load", daemon=True).start()
    return await done


def create_ops_app(services: Services) -> FastAPI:
    """Return an application of health and metrics alone, for `POSEWIRE_OPS_PORT`. It asks for no keys: keep the port private.

    Its answers have the headers, the record and the log lines of the main port's.
    """
    app = FastAPI(title="Posewire: operations", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.add_middleware(RequestContext, services=services)
    problems.install(app, services.metrics)
    app.include_router(ops.health)
    return app


def _add_docs(app: FastAPI) -> None:
    """Add /docs. The service has the files of Swagger UI, so the page works without internet."""
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Posewire API",
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon-32x32.png",
        )
        return HTMLResponse(bytes(page.body).decode().replace("</head>", f"<style>{_DOCS_STYLE}</style></head>"))
