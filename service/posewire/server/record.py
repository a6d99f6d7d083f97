"""What is left of a request when it has been answered: a metric, and a line of the access log."""

import logging
import random

from starlette.requests import HTTPConnection
from starlette.types import Scope

from posewire.server.clients import client_of
from posewire.server.door import ROUTE, TURNED_AWAY
from posewire.server.services import Services

_QUIET_ROUTES = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})


def route_of(scope: Scope) -> str | None:
    """The template of the route, never the raw path: a scanner must not make series without end. None: none matched."""
    route: str | None = scope.get(ROUTE) or getattr(scope.get("route"), "path", None)
    return route


def record(services: Services, scope: Scope, status: int, seconds: float, trace_id: str | None = None) -> None:
    """Count a request and log it, where its status or the share of lines that is kept asks for it.

    Args:
        services: its metrics and settings.
        scope: of the request, when it has been answered.
        status: of the answer.
        seconds: from the request's head to the end of its answer.
        trace_id: of a trace that is kept.
    """
    route, method = route_of(scope), scope["method"]
    services.metrics.observe_request(route, method, status, seconds, trace_id)
    if TURNED_AWAY in scope:
        return  # the door tells how many
    if status < 400 and random.random() >= services.settings.access_log_ratio:  # noqa: S311 - no secret
        return
    level = logging.DEBUG if route in _QUIET_ROUTES and status < 400 else logging.INFO

    def fields() -> dict[str, object]:
        client = client_of(HTTPConnection(scope))
        return {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 2), "client": client}

    services.access_log.note(level, fields)
