"""Which sources and sinks a camera may have.

Without this check a caller could make the service ask internal addresses, or write any file.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit, urlunsplit

from posewire.errors import BadParameter, ConfigError, ForbiddenPlace
from posewire.video.sources import is_path

SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})


@dataclass(frozen=True, slots=True)
class Source:
    """A source of frames."""

    address: str  # without user and password; of a file or a device: its path
    credentials: str = ""  # USER:PASSWORD as in the address; empty: none

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Return a source from an address or a path.

        Raises:
            BadParameter: it is neither an address of a known scheme nor an absolute path.
        """
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise BadParameter(f"source: {error}") from None
        if not url.scheme and text.startswith("/"):
            return cls(text)
        if url.scheme not in SCHEMES or not url.hostname:
            raise BadParameter(
                "source: an rtsp://, rtsps://, http:// or https:// address is needed, or the absolute path of a file or a device"
            )
        user, at, _ = url.netloc.rpartition("@")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        return cls(urlunsplit(url._replace(netloc=host + (f":{port}" if port else ""))), user if at else "")

    @property
    def is_file(self) -> bool:
        """True for a video file. A device such as `/dev/video0` is none: it is tried again when it is unplugged."""
        return is_path(self.address)

    @property
    def full(self) -> str:
        """The address with user and password, as the camera needs it. Never log it."""
        if not self.credentials:
            return self.address
        url = urlsplit(self.address)
        return urlunsplit(url._replace(netloc=f"{self.credentials}@{url.netloc}"))


class AllowedPlaces:
    """The list of a setting: where cameras may be, or where their messages may go.

    Args:
        setting: its name, for messages.
        schemes: of the addresses that it may list.
        patterns: `*` allows everything; `/videos` or a folder's or file's path allows what is in it; `rtsp://10.0.0.0/8`, `rtsp://cam1`,
            `http://*.cams.example` and `rtsp://*` allow hosts: a network, a name, the names below a name, every host. Hosts of a network
            are given by number, for a name may be changed to lead elsewhere.

    Raises:
        ConfigError: a pattern is none of these.
    """

    def __init__(self, setting: str, schemes: frozenset[str], patterns: Sequence[str]) -> None:
        self._setting = setting
        self._everything = "*" in patterns
        self._folders = [Path(p) for p in patterns if p.startswith("/")]
        self._hosts: list[tuple[str, str]] = []
        for pattern in patterns:
            if pattern == "*" or pattern.startswith("/"):
                continue
            scheme, separator, host = pattern.partition("://")
            if not separator or scheme not in schemes or not host:
                raise ConfigError(f"{setting}: {pattern!r} is neither a path nor an address such as {min(schemes)}://10.0.0.0/8")
            self._hosts.append((scheme, host.lower()))

    def check(self, place: str) -> None:
        """Return if an absolute path, or an address without user and password, is allowed.

        Raises:
            ForbiddenPlace: it is not.
        """
        if self._everything:
            return
        if place.startswith("/"):
            path = Path(place).resolve()
            allowed = any(path.is_relative_to(folder.resolve()) for folder in self._folders)
        else:
            url = urlsplit(place)
            allowed = any(scheme == url.scheme and _is_host(url, host) for scheme, host in self._hosts)
        if not allowed:
            raise ForbiddenPlace(f"{self._setting} does not allow {place}; the operator of this service can add it")


def _is_host(url: SplitResult, pattern: str) -> bool:
    name = (url.hostname or "").lower()
    if pattern in ("*", name):
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False
