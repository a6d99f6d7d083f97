"""Messages to an address, by HTTP POST."""

import hashlib
import hmac
import time
from http import HTTPStatus
from typing import Final

import httpx

from posewire.schemas.sinks import Delivery, WebhookSink
from posewire.sinks.base import RefusedError, UndeliveredError

# Statuses below 500 after which a later attempt may succeed.
_LATER: Final = {
    HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED,
    HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS,
}  # fmt: skip


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Posewire-Signature`: HMAC-SHA-256 over the timestamp, a full stop and the body, in hexadecimal digits."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class WebhookTransport:
    """Posts each delivery as JSON. Redirects are not followed."""

    def __init__(self, sink: WebhookSink) -> None:
        self._sink = sink
        self._http = httpx.AsyncClient(timeout=sink.timeout_s)

    async def deliver(self, delivery: Delivery) -> None:
        """Return when the receiver has answered with 2xx.

        Raises:
            UndeliveredError: it does not answer, or with 3xx, 5xx or a status that may change: 401, 403, 404, 408, 409, 423, 425, 429.
            RefusedError: it answers with another 4xx.
        """
        body = delivery.model_dump_json().encode()
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Posewire-Delivery": delivery.id, "X-Posewire-Attempt": str(delivery.attempt)}
        if self._sink.secret is not None:
            headers |= {
                "X-Posewire-Timestamp": timestamp,
                "X-Posewire-Signature": signature(self._sink.secret.get_secret_value(), timestamp, body),
            }
        try:
            # The answer's body is not read: it may have no end.
            async with self._http.stream("POST", self._sink.url, content=body, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UndeliveredError(f"it does not answer: {error or type(error).__name__}") from None
        if not 200 <= status < 300:
            kind = RefusedError if 400 <= status < 500 and status not in _LATER else UndeliveredError
            raise kind(f"it answers with status {status}")

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
