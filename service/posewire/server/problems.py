"""Errors as RFC 9457 problems. The exception classes in `errors.py` give status, type and title."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.types import Scope

from posewire.errors import BadParameter, ServiceError
from posewire.schemas.pose import describe
from posewire.telemetry.logs import request_id_var
from posewire.telemetry.metrics import Metrics

PROBLEM_TYPE = "application/problem+json"

# The request's scope holds the error of its answer here, for the access log: a ServiceError, or an HTTPException of a route.
ERROR = "posewire.error"


def problem(status: int, slug: str, title: str, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> Response:
    """Return the response for one error.

    Args:
        status: HTTP status.
        slug: the last part of the problem's type.
        title: the same for every error of the type.
        detail: of this error: what is wrong and what to do.
        image: index of the image at fault.
        retry_after_s: whole seconds.
    """
    body: dict[str, object] = {"type": f"urn:posewire:problem:{slug}", "title": title, "status": status, "detail": detail}
    if image is not None:
        body["image"] = image
    if request_id := request_id_var.get():
        body["request_id"] = request_id
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(to_json(body), status, headers, PROBLEM_TYPE)


def response_of(error: ServiceError) -> Response:
    """Return the response for a service error."""
    answer = problem(error.status, error.slug, error.title, error.detail, image=error.image, retry_after_s=error.retry_after_s)
    answer.headers.update(error.headers)
    return answer


def note(metrics: Metrics, scope: Scope, error: ServiceError) -> None:
    """Count a service error, and keep it for the access log."""
    metrics.count_rejection(error)
    scope[ERROR] = error


def reject(metrics: Metrics, scope: Scope, error: ServiceError) -> Response:
    """Count a service error, keep it for the access log, and return its response."""
    note(metrics, scope, error)
    return response_of(error)


def reject_by_status(scope: Scope, error: HTTPException) -> Response:
    """Return the response for an error that is nothing but a status, such as 404. It is kept for the access log, and not counted."""
    scope[ERROR] = error
    answer = problem(error.status_code, _slug_of(error), HTTPStatus(error.status_code).phrase, error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _slug_of(error: HTTPException) -> str:
    return HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")


def problem_fields(error: ServiceError | HTTPException | None) -> dict[str, object]:
    """Return the fields of a log line that say why a request or a stream failed; none for None."""
    if error is None:
        return {}
    if isinstance(error, HTTPException):
        return {"problem": _slug_of(error), "detail": error.detail}
    limit = {} if error.limit is None else {"limit": error.limit}
    return {"problem": error.slug, **limit, "detail": error.detail}


def internal_error() -> ServiceError:
    """Return the error for a bug of the service: it tells the client nothing of the cause."""
    return ServiceError("the service failed on this request; its log has the cause under the request id")


def install(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of the application's routes with a problem."""

    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return reject(metrics, request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        return reject(metrics, request.scope, BadParameter(describe(error)))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return reject_by_status(request.scope, error)
