"""Operations: health, models and metrics."""

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from posewire.engine.engine import LoadedModel
from posewire.errors import Dead, NotReady, ServiceError
from posewire.registry.specs import PoseSpec
from posewire.schemas.pose import ModelOut, ModelsResponse
from posewire.server.openapi import problems
from posewire.server.problems import ERROR, response_of
from posewire.server.services import services_of

router = APIRouter(tags=["models"])

# These may be on a port of their own.
health = APIRouter(tags=["operations"])


_TEXT = {"schema": {"type": "string"}}


class Health(BaseModel):
    """The answer of a check that passes."""

    status: Literal["ok", "ready"]


def _check(operation_id: str, summary: str, *errors: type[ServiceError]) -> dict[str, Any]:
    """Return the description of a route that checks the service."""
    return {"operation_id": operation_id, "summary": summary, "responses": {200: {"model": Health}, **problems(*errors)}}


@health.get("/livez", **_check("check_liveness", "Is the process sound?", Dead))
async def livez(request: Request) -> Response:
    """503 when a queue's loop has died: only a restart helps."""
    engine = services_of(request).engine
    if engine is not None and not engine.alive:
        return _failed(request, Dead("restart this instance"))
    return JSONResponse({"status": "ok"})


@health.get("/readyz", **_check("check_readiness", "Would a request be answered?", NotReady))
@health.get("/healthz", **_check("check_health", "The same as /readyz", NotReady))
async def readyz(request: Request) -> Response:
    """503 while the models are loaded and warmed, while one keeps failing or every worker is stuck, and while the service drains."""
    services = services_of(request)
    if services.ready:
        return JSONResponse({"status": "ready"})
    failing = services.engine.failing if services.engine else []
    why = "the models are not served"
    if services.draining:
        why = "the service is stopping"
    elif services.loading is not None and not services.loading.done():
        why = "the models are being loaded"
    elif failing:
        why = f"runs of the {' and the '.join(failing)} model keep failing; they are tried again until one works"
    elif services.engine and services.engine.stuck:
        why = "no worker process runs images: each is stuck, stopped or being replaced"
    return _failed(request, NotReady(why, retry_after_s=None))


def _failed(request: Request, error: ServiceError) -> Response:
    """Return the answer of a check that fails. It is logged, but it rejects nothing, so it is not counted as such."""
    request.scope[ERROR] = error
    return response_of(error)


@router.get("/v1/models", operation_id="list_models", summary="The models that are served, and where they run")
async def models(request: Request) -> ModelsResponse:
    """Names, checksums, inputs and the execution provider that is really in use."""
    engine = services_of(request).engine
    if engine is None:
        return ModelsResponse(device="none", device_reason="not loaded yet", workers=0, pair=None, models=[])
    return ModelsResponse(
        device=engine.plan.device,
        device_reason=engine.plan.reason,
        workers=engine.plan.workers,
        pair=engine.pair,
        models=[_model_out(model) for model in engine.models],
    )


@health.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus text format; OpenMetrics where it is accepted."""
    services = services_of(request)
    services.metrics.set_ready(services.ready)
    body, media_type = services.metrics.render(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": media_type})


def _model_out(model: LoadedModel) -> ModelOut:
    spec = model.spec
    keypoints = spec.keypoints if isinstance(spec, PoseSpec) else None
    return ModelOut(
        name=spec.name,
        task=spec.task,
        title=spec.title,
        provider=model.provider,
        file=model.weights.file,
        sha256=model.weights.sha256,
        licence=spec.licence,
        input_height=spec.input.height,
        input_width=spec.input.width,
        keypoint_set=keypoints.name if keypoints else None,
        keypoints=list(keypoints.names) if keypoints else None,
        skeleton=list(keypoints.skeleton) if keypoints else None,
    )
