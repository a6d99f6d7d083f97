"""API keys: a file of names and digests, read again when it changes. The keys themselves are kept nowhere.

    # who        what `posewire keys new` printed
    camera-hall  sha256:3f0a…

A key is 256 random bits, so a plain SHA-256 hides it: there is nothing to guess faster with.
"""

import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from posewire.errors import ConfigError

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+sha256:([0-9a-f]{64})")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """Who holds a key, and how it is recognised."""

    name: str
    digest: bytes  # SHA-256 of the key


def new_key(name: str) -> tuple[str, str]:
    """A key for its holder, and the line of the keys file by which it is recognised."""
    key = f"pw_{secrets.token_urlsafe(32)}"
    return key, f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        ConfigError: a line is none of a key; names its number alone, for the line may hold a key in clear.
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
    """The keys of a file. A file that becomes unreadable or wrong changes nothing, and is complained of once.

    Args:
        path: of the file; in a Kubernetes secret's folder, whose links are exchanged when it changes.

    Raises:
        ConfigError: it cannot be read or is wrong, now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._version()
        try:
            self._keys = parse_keys(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"POSEWIRE_API_KEYS_FILE={path}: {error}") from None

    def holder(self, key: str) -> str | None:
        """The name of who holds the key; None: nobody. Every key is compared, each in constant time."""
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
        if version == self._seen:
            return
        self._seen = version
        try:
            self._keys = parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, ConfigError) as error:
            log.error("the API keys could not be read again; those from before stay in force: %s", error)
            return
        log.info("API keys read again", extra={"keys": len(self._keys)})
