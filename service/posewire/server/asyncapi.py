"""The AsyncAPI 3 document of `WS /v1/stream`, made from the messages in `schemas/stream.py`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from posewire import __version__
from posewire.errors import ServiceError, service_errors
from posewire.schemas.stream import AckMessage, ErrorMessage, ResultMessage, StartedMessage, StartMessage
from posewire.server.services import services_of

_DESCRIPTION = """\
The client sends `start`, then frames. The service processes one frame at a time and drops all but the newest of those that wait.
The client acknowledges each `result` and `error`: each answer without an acknowledgement uses one of the `credits` of `started`.
"""

_MODELS: dict[str, type[BaseModel]] = {
    "start": StartMessage,
    "ack": AckMessage,
    "started": StartedMessage,
    "result": ResultMessage,
    "error": ErrorMessage,
}
_FRAME = {
    "name": "frame",
    "title": "A frame, as a binary message",
    "summary": "One image as it is in its file: JPEG, PNG, WebP or BMP. The first frame of a stream has the number 0.",
    "contentType": "application/octet-stream",
    "payload": {"type": "string", "format": "binary"},
}
_CHANNEL = {"$ref": "#/channels/stream"}


def document(host: str, protocol: str, *, keys_needed: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        host: of the service, with its port.
        protocol: "ws" or "wss".
        keys_needed: the service has a file of keys.
    """
    _, schemas = models_json_schema(
        [(model, "validation" if model in (StartMessage, AckMessage) else "serialization") for model in _MODELS.values()],
        ref_template="#/components/schemas/{model}",
    )
    messages = {name: _message(name, model.__name__, model.__doc__ or "") for name, model in _MODELS.items()} | {"frame": _FRAME}
    server = {"host": host, "protocol": protocol, "title": "The service that serves this document"}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Posewire: streams",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"service": server | ({"security": [{"$ref": "#/components/securitySchemes/bearer"}]} if keys_needed else {})},
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "title": "The frames of one camera, and the people in them",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
                "x-close-codes": _close_codes(),
            }
        },
        "operations": {
            "receive_start": _receive("The first message of the client.", "start", "started"),
            "receive_frame": _receive("A frame. The service answers it, or a later one and drops it.", "frame", "result", "error"),
            "receive_ack": _receive("The client has processed an answer.", "ack"),
        },
        "components": {
            "messages": messages,
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A browser sends the key as the subprotocol `posewire.key.KEY`, beside the subprotocol `posewire.v1`.",
                }
            },
        },
    }


def install(app: FastAPI) -> None:
    """Serve the document at `/asyncapi.json`."""

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi(request: Request) -> JSONResponse:
        protocol = "wss" if request.url.scheme == "https" else "ws"
        return JSONResponse(document(request.url.netloc, protocol, keys_needed=services_of(request).keys is not None))


def _message(name: str, model: str, summary: str) -> dict[str, Any]:
    return {"name": name, "title": name, "summary": summary, "payload": {"$ref": f"#/components/schemas/{model}"}}


def _receive(summary: str, message: str, *answers: str) -> dict[str, Any]:
    """Return an operation of the service: it receives a message of the client, and answers with one of `answers`."""
    operation: dict[str, Any] = {"action": "receive", "summary": summary, "channel": _CHANNEL, "messages": [_in_channel(message)]}
    if answers:
        operation["reply"] = {"channel": _CHANNEL, "messages": [_in_channel(answer) for answer in answers]}
    return operation


def _in_channel(message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/stream/messages/{message}"}


def _close_codes() -> dict[str, str]:
    """Return the codes with which the service closes a stream, and what each means."""
    titles: dict[int, list[str]] = {ServiceError.close_code: [ServiceError.title]}
    for kind in service_errors():
        if kind.close_code != ServiceError.close_code:  # which those have that no stream ends with
            titles.setdefault(kind.close_code, []).append(kind.title)
    return {str(code): "; ".join(titles[code]) for code in sorted(titles)}
