"""The OpenAPI document: what the routes share, and the parts that hold for all of them.

A route has an operation id, a tag, and the errors that it raises:

    @router.get("/v1/models", tags=["models"], operation_id="list_models", responses=problems(NotReady))

`DocumentedApp` adds what the middleware does on every route: the headers of each answer, 401, 403, 421, `default` for any other
error, and the security scheme.
"""

import inspect
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from pydantic import TypeAdapter

from posewire.errors import BadHost, ForeignOrigin, Misdirected, ServiceError, Unauthorized
from posewire.schemas.problem import Problem
from posewire.server.auth import OPEN_PATHS
from posewire.server.headers import REQUEST_ID, RETRY_AFTER, TRACEPARENT
from posewire.server.problems import PROBLEM_TYPE

# The value of a route's `responses=`.
Responses = dict[int | str, dict[str, Any]]

# A media type whose bodies are the bytes of a file. OpenAPI 3.1 calls the format obsolete, but generators of clients go by it.
BINARY = {"schema": {"type": "string", "format": "binary"}}

# A WebSocket has no place in OpenAPI.
_DESCRIPTION = """\
Posewire finds every person in an image and estimates the keypoints of each. Coordinates are pixels of the upright image.

Every error is a `Problem` (RFC 9457), with an `X-Request-Id` under which the service's log has it.

`POST /v1/pose` takes and gives several media types, which `Content-Type`, `Accept` and `format` choose.
Each path below it takes one and gives one: use those with a generated client.

The messages of the stream at `/v1/stream`, a WebSocket, are in an [AsyncAPI document](asyncapi.json).
"""

TAGS = [
    {"name": "poses", "description": "People in images."},
    {"name": "video", "description": "People in a video, followed from frame to frame."},
    {"name": "cameras", "description": "Cameras that the service watches by itself."},
    {"name": "webrtc", "description": "Video and results over WebRTC: WHIP (RFC 9725) and WHEP."},
    {"name": "models", "description": "The models that are served."},
    {"name": "operations", "description": "Health and metrics."},
]

# A relative address holds behind every proxy: it is relative to the document's own.
SERVERS = [{"url": ".", "description": "The service that serves this document."}]

_COMPONENT = "#/components/schemas/{model}"
_BEARER = "bearer"
_RETRYABLE = ("429", "503", "507")

_COMPONENTS = {
    "securitySchemes": {
        _BEARER: {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of `posewire keys new`. It is needed if the service has a file of keys (`POSEWIRE_API_KEYS_FILE`).",
        }
    },
    "headers": {
        REQUEST_ID: {
            "description": "The id of the request in the service's log: that of the request, or a random one.",
            "required": True,
            "schema": {"type": "string"},
        },
        RETRY_AFTER: {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 0}},
        TRACEPARENT: {
            "description": "The trace of the request (W3C Trace Context), if the service exports traces.",
            "schema": {"type": "string"},
        },
    },
    "parameters": {
        "Timeout": {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "required": False,
            "description": "Milliseconds after which the answer is of no use: then 504.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        },
        "RequestId": {
            "name": REQUEST_ID,
            "in": "header",
            "required": False,
            "description": "An id for the service's log; one that does not match the pattern is replaced.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,128}$"},
        },
        "Traceparent": {
            "name": TRACEPARENT,
            "in": "header",
            "required": False,
            "description": "The trace that the request belongs to (W3C Trace Context).",
            "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        },
    },
}

# Headers that a request may have, for `openapi_extra`.
TRACING_HEADERS = [{"$ref": "#/components/parameters/RequestId"}, {"$ref": "#/components/parameters/Traceparent"}]
TIMEOUT_HEADER = {"$ref": "#/components/parameters/Timeout"}


def schema_of(kind: Any, *, mode: Literal["validation", "serialization"] = "serialization", name: str | None = None) -> dict[str, Any]:
    """Return a JSON Schema for a place of the document that FastAPI does not fill from a route's signature.

    The models in it become components of the document.

    Args:
        kind: a pydantic model, or a type that pydantic knows.
        mode: "validation" for what the service takes, "serialization" for what it sends.
        name: of the component for the type itself; a model has its own name.
    """
    # Without None, as FastAPI writes its own schemas: both may have the same model.
    schema = jsonable_encoder(TypeAdapter(kind).json_schema(mode=mode, ref_template=_COMPONENT), exclude_none=True)
    definitions = schema.pop("$defs", {})
    if name is None and inspect.isclass(kind):
        name = kind.__name__
    if name is None:
        return {**schema, "$defs": definitions}
    return {"$ref": _COMPONENT.format(model=name), "$defs": {**definitions, name: schema}}


def problems(*errors: type[ServiceError]) -> Responses:
    """Return the answers to these errors, for a route's `responses=`: one for each status."""
    by_status: dict[int, list[type[ServiceError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {status: _problem_answer(*kinds) for status, kinds in sorted(by_status.items())}


def _problem_answer(*errors: type[ServiceError]) -> dict[str, Any]:
    examples = {
        error.slug: {
            "summary": error.title,
            "value": {
                "type": f"urn:posewire:problem:{error.slug}",
                "title": error.title,
                "status": error.status,
                "detail": (inspect.getdoc(error) or error.title).splitlines()[0],
                "request_id": "6176ebcf5d811695a2b97e89f799ba38",
            },
        }
        for error in errors
    }
    return {
        "description": "; ".join(f"{error.title} (`{error.slug}`)" for error in errors) + ".",
        "content": {PROBLEM_TYPE: {"schema": schema_of(Problem, mode="validation"), "examples": examples}},
    }


class DocumentedApp(FastAPI):
    """FastAPI application whose document has what holds on every route."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document, which is made once."""
        made = self.openapi_schema
        document = super().openapi()
        if made is None:
            _complete(document, keys_needed=self.state.services.keys is not None)
        return document


def _complete(document: dict[str, Any], *, keys_needed: bool) -> None:
    document["info"]["description"] = _DESCRIPTION
    document["security"] = [{_BEARER: []}] if keys_needed else [{_BEARER: []}, {}]
    for path, method, operation in operations(document):
        _complete_operation(operation, key=path not in OPEN_PATHS, changes=method not in ("get", "head"))
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _move_definitions(document["paths"], schemas)
    components["schemas"] = dict(sorted(schemas.items()))
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            field.pop("title", None)  # pydantic's: the field's name again, after which generators would name types
    components.update(_COMPONENTS)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation for each operation of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete_operation(operation: dict[str, Any], *, key: bool, changes: bool) -> None:
    """Add what the middleware does.

    Args:
        operation: of the document.
        key: it may need a key.
        changes: it has a method that pages of other sites may not use.
    """
    responses = operation["responses"]
    if not key:
        operation["security"] = []
    else:
        responses.setdefault("401", _problem_answer(Unauthorized))
    if changes:
        responses.setdefault("403", _problem_answer(ForeignOrigin))
    responses.setdefault("421", _problem_answer(Misdirected))
    responses.setdefault("default", _problem_answer(ServiceError, BadHost) | {"description": "Any other error."})
    operation["responses"] = dict(sorted(responses.items()))
    for status, response in responses.items():
        headers = response.setdefault("headers", {})
        names = [REQUEST_ID] + [TRACEPARENT] * status.startswith("2") + [RETRY_AFTER] * (status in _RETRYABLE)
        for name in names:
            headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})
    for parameter in operation.get("parameters", []):
        schema = parameter.get("schema", {})
        schema.pop("title", None)
        if "anyOf" in schema:  # a query has no null: a parameter that is not given is left out
            kinds = [each for each in schema.pop("anyOf") if each != {"type": "null"}]
            schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _move_definitions(value: Any, schemas: dict[str, Any]) -> None:
    """Move the definitions of `schema_of` to the document's components."""
    if isinstance(value, dict):
        for name, schema in value.pop("$defs", {}).items():
            if schemas.setdefault(name, schema) != schema:
                raise ValueError(f"two different schemas have the name {name}")
        for each in value.values():
            _move_definitions(each, schemas)
    elif isinstance(value, list):
        for each in value:
            _move_definitions(each, schemas)
