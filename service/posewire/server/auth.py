"""Access: host names, page origins and API keys. All are checked before any byte of a body is read.

The keys are a file of names and digests, which is read again when it changes. The keys themselves are kept nowhere.

    # holder     what `posewire keys new` printed
    camera-hall  sha256:3f0a…

A key is 256 random bits, so a plain SHA-256 hides it: no guess is faster than trying all keys.
"""

import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posewire.errors import BadHost, ConfigError, ForeignOrigin, Misdirected, ServiceError, Unauthorized
from posewire.server.limits import KEY_HOLDER
from posewire.server.problems import reject
from posewire.telemetry.metrics import Metrics

# A page can set no header of a WebSocket but the subprotocols. So it offers two: its key, and this one, which the service
# chooses, because a browser expects the choice of one that it has offered.
SUBPROTOCOL = "posewire.v1"
_KEY_SUBPROTOCOL = "posewire.key."

# These need no key: a load balancer learns nothing but yes or no, and the pages can ask their user for a key.
_HEALTH = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = _HEALTH | {"/", "/cameras"}
_PAGE_FILES = "/web/"

# A page of any site may send these; without CORS it cannot read the answers. They change nothing.
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# A Host header: a name or an address, and a port (RFC 9110, 7.2).
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.ASCII)
_PORTS = {"http": 80, "https": 443}

# A keys file that changed so recently may be half written.
_WRITTEN_S = 2.0

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+sha256:([0-9a-f]{64})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its holder, and the digest that it is compared with."""

    name: str
    digest: bytes  # SHA-256 of the key


def new_key(name: str) -> tuple[str, str]:
    """Return a new key for a holder, and its line of the keys file."""
    key = f"pw_{secrets.token_urlsafe(32)}"
    return key, f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys of a keys file.

    Raises:
        ConfigError: a line is not valid. The error has the line's number only: the line may hold a key in clear.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#")[0].strip()
        if content:
            if not (found := _LINE.fullmatch(content)):
                raise ConfigError(f"line {number} of the API keys is not NAME sha256:DIGEST, as `posewire keys new NAME` prints it")
            keys.append(Key(found[1], bytes.fromhex(found[2])))
    return tuple(keys)


class KeyRing:
    """The keys of a file, read again when the file changes.

    A changed file is read when it has been unchanged for two seconds: before, it may be half written. A file that becomes
    unreadable or wrong is logged once. Until a whole file has been read, the keys from before stay in force.

    Args:
        path: of the keys file. A Kubernetes secret replaces the link to it when it changes.

    Raises:
        ConfigError: the file cannot be read or is wrong at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._seen = self._version()
        self._seen_at = time.monotonic()
        try:
            self._keys = parse_keys(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"POSEWIRE_API_KEYS_FILE={path}: {error}") from None

    def holder(self, key: str) -> str | None:
        """Return the name of the key's holder; None: the key is not valid. Compares every key, each in constant time."""
        self._refresh()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        matches = [known.name for known in self._keys if hmac.compare_digest(known.digest, digest)]
        return matches[0] if matches else None

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        version = self._version()
        if version == self._read:
            return
        if version != self._seen:
            self._seen, self._seen_at = version, time.monotonic()
        if not self._whole(version):
            return
        try:
            keys = parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, ConfigError) as error:
            self._read = version
            log.error("the API keys could not be read again; those from before stay in force: %s", error)
            return
        if self._version() != version:
            return  # it was written while it was read
        self._read, self._keys = version, keys
        log.info("API keys read again", extra={"keys": len(self._keys)})

    def _whole(self, version: tuple[int, int, int] | None) -> bool:
        """Return True if the file has not changed for a while, by its own time or by ours: the clocks may differ."""
        if version is None:
            return True  # there is nothing to wait for
        return time.time() - version[0] / 1e9 >= _WRITTEN_S or time.monotonic() - self._seen_at >= _WRITTEN_S


def identify(keys: KeyRing, key: str | None) -> str:
    """Return the name of the key's holder.

    Raises:
        Unauthorized: there is no key, or it is not valid.
    """
    if key is None:
        raise Unauthorized("an API key is needed: Authorization: Bearer KEY")
    holder = keys.holder(key)
    if holder is None:
        raise Unauthorized("the API key is not valid, or no longer")
    return holder


class Access:
    """ASGI middleware that rejects requests without a valid key, for other hosts, and from pages of other origins.

    Args:
        app: the next application.
        keys: None: no key is needed.
        origins: pages that may send requests and open streams, beside those of the service's own host; "*": any page.
        hosts: names and addresses that requests may be for; "*.NAME": every name below NAME; empty: any.
        metrics: counts the rejections.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None, origins: tuple[str, ...], hosts: tuple[str, ...], metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._origins = origins
        self._hosts = frozenset(_canonical(host) for host in hosts if not host.startswith("*."))
        self._domains = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except ServiceError as error:
            answer = reject(self._metrics, scope, error)
            answer.headers["Connection"] = "close"  # the body stays unread
            if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
                await answer(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": error.close_code, "reason": error.detail})
            return
        await self._app(scope, receive, _choose_subprotocol(scope, send) if scope["type"] == "websocket" else send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(scope, headers)
        if scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS:
            self._check_origin(headers)
        if self._keys is None or _is_open(scope):
            return
        scope[KEY_HOLDER] = identify(self._keys, _key_of(scope, headers))

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        """Check what RFC 9112, 3.2 demands, then the list: it stops pages whose name an attacker points at this service."""
        given = headers.getlist("host")
        if len(given) > 1 or (not given and scope.get("http_version", "1.1") == "1.1"):
            raise BadHost(f"the request has {len(given) or 'no'} Host headers; it needs one")
        host = _HOST.fullmatch(given[0] if given else "")
        if host is None:
            raise BadHost("the Host header is not a name or an address, with or without a port")
        if not self._hosts and not self._domains:
            return
        name = _canonical(host["name"].lower())
        if name not in self._hosts and not name.endswith(self._domains) and not (_is_read(scope) and scope["path"] in _HEALTH):
            raise Misdirected("this host is not served here; POSEWIRE_ALLOWED_HOSTS lists those that are")

    def _check_origin(self, headers: Headers) -> None:
        origin = ", ".join(headers.getlist("origin")).lower()  # a browser sends one: several match nothing
        if "*" in self._origins or origin in self._origins:
            return
        site = headers.get("sec-fetch-site")  # no page can choose it
        if site == "cross-site" or (origin and site != "same-origin" and not _is_of_host(origin, headers.get("host", "").lower())):
            raise ForeignOrigin(
                "pages of this origin may neither send requests nor open streams; POSEWIRE_ALLOWED_ORIGINS lists those that may"
            )


def _canonical(host: str) -> str:
    """Return a host of lower case in the form in which hosts are compared."""
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return host.removesuffix(".")


def _is_of_host(origin: str, host: str) -> bool:
    """Return True if a page's origin has this host and port; one that cannot be parsed has none."""
    try:
        page = urlsplit(origin)
        own = urlsplit(f"{page.scheme}://{host}")
        default = _PORTS[page.scheme]
        return page.hostname is not None and (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except (ValueError, KeyError):
        return False


def _is_read(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD")


def _is_open(scope: Scope) -> bool:
    """Return True for requests that need no key."""
    return _is_read(scope) and (scope["path"] in OPEN_PATHS or scope["path"].startswith(_PAGE_FILES))


def bearer_key(authorization: str) -> str | None:
    """Return the key of an `Authorization` header; None: it is not a bearer token."""
    scheme, _, credentials = authorization.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None


def _key_of(scope: Scope, headers: Headers) -> str | None:
    """Return the key of a request, and remove a stream's key from its subprotocols."""
    if (key := bearer_key(headers.get("authorization", ""))) is not None:
        return key
    if scope["type"] == "websocket":
        offered: list[str] = scope["subprotocols"]
        scope["subprotocols"] = [name for name in offered if not name.startswith(_KEY_SUBPROTOCOL)]
        return next((name.removeprefix(_KEY_SUBPROTOCOL) for name in offered if name.startswith(_KEY_SUBPROTOCOL)), None)
    return None


def _choose_subprotocol(scope: Scope, send: Send) -> Send:
    """Return a `send` that accepts a stream with our subprotocol where the client offers it."""

    async def choose(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol") and SUBPROTOCOL in scope["subprotocols"]:
            message["subprotocol"] = SUBPROTOCOL
        await send(message)

    return choose
