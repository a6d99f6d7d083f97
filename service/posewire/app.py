"""The application: the only place where the parts are wired together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from posewire import __version__
from posewire.api import images, ops, pages, problems, stream, videos
from posewire.api.admission import Admission
from posewire.api.middleware import RequestContext
from posewire.api.rate_limit import RateLimit
from posewire.api.services import Services
from posewire.api.streams import Streams
from posewire.config import Settings
from posewire.inference.engine import Engine, load_engine
from posewire.telemetry.metrics import Metrics


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        settings: read once, by `load_settings`.
        engine: loaded, not yet started; None: the lifespan loads it.

    Raises (from the lifespan):
        ModelError, DeviceError: as `load_engine`.
    """
    metrics = engine.metrics if engine else Metrics()
    services = Services(
        settings,
        metrics,
        Admission(settings.max_in_flight, metrics),
        RateLimit(settings.rate_limit, settings.rate_burst),
        Streams(settings.max_streams, metrics),
        engine,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if services.engine is None:
            services.engine = await asyncio.to_thread(load_engine, settings, metrics)
        await services.engine.start()
        try:
            yield
        finally:
            await services.engine.close()

    app = FastAPI(
        title="Posewire",
        version=__version__,
        summary="Real-time human pose estimation",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a picture that was sent once is not sent again for a slash
    )
    app.state.services = services
    app.add_middleware(RequestContext, services=services)
    problems.install(app)
    app.include_router(images.router)
    app.include_router(videos.router)
    app.include_router(stream.router)
    app.include_router(ops.router)
    pages.install(app)
    _add_docs(app)
    return app


def _add_docs(app: FastAPI) -> None:
    """/docs with Swagger UI's files served from here: it works without internet."""
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="Posewire API",
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon-32x32.png",
        )
