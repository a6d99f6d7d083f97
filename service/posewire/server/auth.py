"""Who may come in: API keys, and the pages whose scripts may. Asked before any byte of a body is read."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posewire.errors import ForeignOrigin, ServiceError, Unauthorized
from posewire.server.clients import HOLDER
from posewire.server.keys import KeyRing
from posewire.server.problems import problem_of
from posewire.telemetry.metrics import Metrics

# A browser's WebSocket sends no header of the page's choice but the subprotocols: the key is one of them, this is the other,
# which the service chooses, since a browser that has offered some wants one chosen.
SUBPROTOCOL = "posewire.v1"
_KEY_SUBPROTOCOL = "posewire.key."

# Without a key: a balancer that asks learns nothing but yes or no, and who opens the demo page can be asked there for a key.
_OPEN = frozenset({"/livez", "/readyz", "/healthz", "/"})
_PAGE_FILES = "/web/"


class Access:
    """Lets in who holds a key, where there are keys, and streams from our own page and from pages that are listed.

    Args:
        app: what is behind.
        keys: None: everyone is let in.
        origins: of pages whose scripts may open streams, beside those of the service's own host; "*": any.
        metrics: count who is turned away.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, origins: tuple[str, ...], metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._origins = origins
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ServiceError as error:
            self._metrics.count_rejection(error)
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, _choosing(scope, send) if scope["type"] == "websocket" else send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            self._check_origin(headers)
        if self._keys is None or _is_open(scope):
            return
        key = _key_of(scope, headers)
        if key is None:
            raise Unauthorized("an API key is needed: Authorization: Bearer KEY")
        holder = self._keys.holder(key)
        if holder is None:
            raise Unauthorized("the API key is not valid, or no longer")
        scope[HOLDER] = holder

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return  # no browser, or a page that is listed
        if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise ForeignOrigin("pages of this origin may not open streams; POSEWIRE_ALLOWED_ORIGINS lists those that may")


def _is_open(scope: Scope) -> bool:
    """Whether what is asked for is told to anyone."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    return scope["path"] in _OPEN or scope["path"].startswith(_PAGE_FILES)


def bearer_key(authorization: str) -> str | None:
    """The key of an `Authorization` header; None: it is none of ours."""
    scheme, _, credentials = authorization.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _key_of(scope: Scope, headers: Headers) -> str | None:
    """The key that a request brings; a stream's is taken out of its subprotocols."""
    if (key := bearer_key(headers.get("authorization", ""))) is not None:
        return key
    if scope["type"] == "websocket":
        offered: list[str] = scope["subprotocols"]
        scope["subprotocols"] = [name for name in offered if not name.startswith(_KEY_SUBPROTOCOL)]
        return next((name.removeprefix(_KEY_SUBPROTOCOL) for name in offered if name.startswith(_KEY_SUBPROTOCOL)), None)
    return None


def _choosing(scope: Scope, send: Send) -> Send:
    """Choose our subprotocol for a client that offers it."""

    async def choose(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol") and SUBPROTOCOL in scope["subprotocols"]:
            message["subprotocol"] = SUBPROTOCOL
        await send(message)

    return choose


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem_of(error)
    answer.headers["Connection"] = "close"  # the body stays unread
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
        await answer(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": error.close_code, "reason": error.detail})
