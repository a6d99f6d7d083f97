"""The access log and the request metrics: one record for every answer over HTTP and every gRPC call.

A failed request has a line of its own, with the problem's type (`problem`), the limit that was reached (`limit`) and the text that the
client got (`detail`). From status 500 on its level is warning: the service did not do its part, and that counts against its
objective. Below, it is info: the client is at fault, and clients must not choose how many warnings there are.

There is one exception. A request that is rejected before its body is read, because all places for images are taken, has no line:
under overload such lines would be most of the log. `Admission.shed_load` logs their number once a second.
"""

import logging
import random

from starlette.requests import HTTPConnection
from starlette.types import Scope

from posewire.errors import Overloaded, ServiceError
from posewire.server.limits import address_of, client_of
from posewire.server.problems import ERROR, problem_fields
from posewire.server.services import Services

# The key of a request's scope for its route, where the router does not set one.
ROUTE = "posewire.route"

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
        scope: of the request, after its answer; of a WebSocket if its handshake is answered over HTTP.
        status: of the answer.
        seconds: from the request's head to the end of its answer.
        trace_id: of a trace that is kept.
    """
    route, method = route_of(scope), scope.get("method", "WEBSOCKET")
    services.metrics.observe_request(route, method, status, seconds, trace_id)
    error = scope.get(ERROR)  # of a video also with status 200: it can fail when its answer has begun
    if isinstance(error, Overloaded) and error.limit == "images":
        return
    if status < 400 and error is None and random.random() >= services.settings.access_log_ratio:  # noqa: S311 - no secret
        return
    if route in _QUIET_ROUTES:
        level = logging.DEBUG if status < 400 else logging.INFO
    else:
        level = _level_of(error.status if isinstance(error, ServiceError) else status)
    if log.isEnabledFor(level):
        client = client_of(HTTPConnection(scope))
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2), "client": client}
        log.log(level, "request", extra=fields | problem_fields(error))


def log_early_rejection(error: ServiceError, host: str | None) -> None:
    """Log a connection or a head that was rejected before there was a request: it has neither method nor route, and no key.

    Args:
        error: of the answer.
        host: address of the peer, which may be a proxy; None: it is not known.
    """
    fields = {"status": error.status, "client": f"address {address_of(host)}"}
    log.log(_level_of(error.status), "request", extra=fields | problem_fields(error))


def _level_of(status: int) -> int:
    return logging.WARNING if status >= 500 else logging.INFO
