"""The access log and the request metrics: one record for every answered request."""

import logging
import random

from starlette.requests import HTTPConnection
from starlette.types import Scope

from posewire.server.limits import client_of
from posewire.server.services import Services

# Keys of a request's scope: its route where the router does not set one, and the mark of requests that load shedding logs.
ROUTE = "posewire.route"
SHED = "posewire.shed"

_QUIET_ROUTES = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/v2/health/live", "/v2/health/ready"}) | {
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
}

log = logging.getLogger("posewire.access")


def route_of(scope: Scope) -> str | None:
    """Return the template of the route, never the raw path: a scanner must not create endless series. None: no route matched."""
    route: str | None = scope.get(ROUTE) or getattr(scope.get("route"), "path", None)
    return route


def record(services: Services, scope: Scope, status: int, seconds: float, trace_id: str | None = None) -> None:
    """Count a request, and log it where its status or `access_log_ratio` asks for it.

    Args:
        services: its metrics and settings.
        scope: of the request, after its answer.
        status: of the answer.
        seconds: from the request's head to the end of its answer.
        trace_id: of a trace that is kept.
    """
    route, method = route_of(scope), scope["method"]
    services.metrics.observe_request(route, method, status, seconds, trace_id)
    if SHED in scope:
        return  # `Admission.shed_load` logs their number
    if status < 400 and random.random() >= services.settings.access_log_ratio:  # noqa: S311 - no secret
        return
    level = logging.DEBUG if route in _QUIET_ROUTES and status < 400 else logging.INFO
    if log.isEnabledFor(level):
        client = client_of(HTTPConnection(scope))
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2), "client": client}
        log.log(level, "request", extra=fields)
