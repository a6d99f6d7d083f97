"""Errors on the wire: RFC 9457 problems, from one table of exception classes."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from posewire.errors import BadParameter, ServiceError
from posewire.schemas.pose import describe
from posewire.server.services import Services, services_of
from posewire.telemetry.logs import request_id_var

MEDIA_TYPE = "application/problem+json"


def problem(status: int, slug: str, title: str, detail: str, *, image: int | None = None, retry_after_s: int | None = None) -> Response:
    """The answer for one error.

    Args:
        status: HTTP status.
        slug: the problem type's last part.
        title: the same for every error of the type.
        detail: of this error: what is wrong and what to do.
        image: index of the picture at fault.
        retry_after_s: whole seconds.
    """
    body = _body(status, slug, title, detail, image)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(body, status, headers, MEDIA_TYPE)


def _body(status: int, slug: str, title: str, detail: str, image: int | None) -> bytes:
    body: dict[str, object] = {"type": f"urn:posewire:problem:{slug}", "title": title, "status": status, "detail": detail}
    if image is not None:
        body["image"] = image
    if request_id := request_id_var.get():
        body["request_id"] = request_id
    return to_json(body)


def problem_body(error: ServiceError) -> bytes:
    """The body of `problem_of`'s answer."""
    return _body(error.status, error.slug, error.title, error.detail, error.image)


def problem_of(error: ServiceError) -> Response:
    """The answer for an error that is the caller's to know."""
    return problem(error.status, error.slug, error.title, error.detail, image=error.image, retry_after_s=error.retry_after_s)


def reject(services: Services, error: ServiceError) -> Response:
    """As `problem_of`, and counted."""
    services.metrics.count_rejection(error)
    return problem_of(error)


def internal_error() -> ServiceError:
    """What is told of a fault of ours: nothing of its inside reaches the client."""
    return ServiceError("the service failed on this request; its log has the cause under the request id")


def internal_problem() -> Response:
    """The answer for it."""
    return problem_of(internal_error())


def install(app: FastAPI) -> None:
    """Answer every error of the application's routes with a problem."""

    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        return reject(services_of(request), error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        services_of(request).metrics.count_rejection(BadParameter)
        return problem(BadParameter.status, BadParameter.slug, BadParameter.title, describe(error))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase
        answer = problem(error.status_code, title.lower().replace(" ", "-"), title, error.detail)
        answer.headers.update(error.headers or {})
        return answer
