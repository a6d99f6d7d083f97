"""Where the file of a download comes from, and how its bytes arrive."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from posewire.errors import ConfigError, ModelError
from posewire.registry.specs import RemoteFile

Source: TypeAlias = str | Path  # an address, or a file of a mirror folder
_TIMEOUT: Final = httpx.Timeout(30, connect=15)  # seconds without a byte
_MOST_REDIRECTS: Final = 5


def source_of(remote: RemoteFile, mirror: str | None) -> Source:
    """Where a published file is: at its address, or by its name on a mirror.

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
        return Path(mirror).expanduser() / remote.file_name
    raise ConfigError(f"POSEWIRE_MODEL_MIRROR={mirror!r}: neither a folder of this machine nor file://, http:// or https://")


def shown(source: Source) -> str:
    """A source as messages name it, without a password."""
    return re.sub(r"//[^/@]*@", "//", str(source))


@contextmanager
def open_client(address: str) -> Iterator[httpx.Client]:
    """A client that goes where the address leads: at most five redirects, over HTTP(S), never from https to http."""

    def check(request: httpx.Request) -> None:
        if request.url.scheme != "https" and (request.url.scheme != "http" or address.startswith("https://")):
            raise ModelError(f"{shown(address)}: leads to {request.url.scheme}://{request.url.host}, which is refused")

    hooks: dict[str, list[Callable[..., object]]] = {"request": [check]}
    # The sum is of the file's own bytes: no compression on the way.
    headers = {"Accept-Encoding": "identity"}
    with httpx.Client(follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=_TIMEOUT, headers=headers, event_hooks=hooks) as client:
        yield client
