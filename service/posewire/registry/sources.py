"""The sources of downloads: addresses and mirrors, and the HTTP client for them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from posewire.errors import ConfigError, ModelError
from posewire.registry.specs import RemoteFile

Source: TypeAlias = str | Path  # an address, or a file of a mirror folder
_TIMEOUT: Final = httpx.Timeout(30, connect=15)  # seconds without a byte
_MAX_REDIRECTS: Final = 5


def source_of(remote: RemoteFile, mirror: str | None) -> Source:
    """Return the source of a published file: its address, or the file of its name on a mirror.

    Args:
        remote: of a download of the manifest.
        mirror: a folder, or the address of one with file://, http:// or https://; None: there is none.

    Raises:
        ConfigError: the mirror is of another kind.
    """
    if not mirror:
        return remote.address
    if mirror.startswith(("http://", "https://")):
        return f"{mirror.rstrip('/')}/{remote.file_name}"
    if mirror.startswith("file://"):
        parts = urlsplit(mirror)
        if parts.netloc in ("", "localhost"):
            return Path(url2pathname(parts.path)) / remote.file_name
    elif "://" not in mirror:
        with suppress(RuntimeError):  # there is no home folder, or no such user
            return Path(mirror).expanduser() / remote.file_name
    raise ConfigError(f"POSEWIRE_MODEL_MIRROR={mirror!r}: neither a folder of this machine nor file://, http:// or https://")


def shown(source: Source) -> str:
    """Return a source for messages, without a password."""
    return re.sub(r"//[^/@]*@", "//", str(source))


@contextmanager
def open_client(address: str) -> Iterator[httpx.Client]:
    """Yield a client that follows redirects: at most five, over HTTP(S), never from https to http."""

    def check(request: httpx.Request) -> None:
        if request.url.scheme != "https" and (request.url.scheme != "http" or address.startswith("https://")):
            raise ModelError(f"{shown(address)}: leads to {request.url.scheme}://{request.url.host}, which is refused")

    hooks: dict[str, list[Callable[..., object]]] = {"request": [check]}
    # The checksum is of the file itself: the transfer must not be compressed.
    headers = {"Accept-Encoding": "identity"}
    with httpx.Client(follow_redirects=True, max_redirects=_MAX_REDIRECTS, timeout=_TIMEOUT, headers=headers, event_hooks=hooks) as client:
        yield client
