"""The cameras on disk: what they are in one file, their secrets in another that only the service's user may read."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from posewire.cameras.sources import Source
from posewire.errors import ConfigError, PosewireError
from posewire.files import make_folder
from posewire.schemas.cameras import CameraSpec
from posewire.schemas.sinks import Sink

_SINKS: TypeAdapter[tuple[Sink, ...]] = TypeAdapter(tuple[Sink, ...])


class CameraStore:
    """Cameras by name. One process at a time has a store; one thread at a time uses it.

    Args:
        folder: of the state; it is made.

    Raises:
        InUse: another process has the store.
        ConfigError: the folder cannot be written, or a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            make_folder(folder)
            secrets = folder / "camera-secrets.sqlite"
            os.close(os.open(secrets, os.O_RDWR | os.O_CREAT, 0o600))
            secrets.chmod(0o600)
            self._database = sqlite3.connect(folder / "cameras.sqlite", timeout=0.1, isolation_level=None, check_same_thread=False)
            self._database.executescript("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;")
            self._database.execute("ATTACH ? AS hidden", [str(secrets)])
            with self._writing():
                self._database.execute("CREATE TABLE IF NOT EXISTS main.cameras (name TEXT PRIMARY KEY, spec TEXT NOT NULL)")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS hidden.secrets (name TEXT PRIMARY KEY, credentials TEXT NOT NULL, sinks TEXT NOT NULL)"
                )
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InUse(f"{folder}: another process watches the cameras of this folder") from None
            raise ConfigError(f"POSEWIRE_STATE_DIR={folder}: {error}") from None
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"POSEWIRE_STATE_DIR={folder}: {error}") from None
        self._folder = folder

    def load(self) -> list[CameraSpec]:
        """Return all cameras with their secrets, by name.

        Raises:
            ConfigError: a camera in the file is not one of this version.
        """
        rows = self._database.execute(
            "SELECT c.name, c.spec, coalesce(s.credentials, ''), coalesce(s.sinks, '[]') "
            "FROM main.cameras c LEFT JOIN hidden.secrets s USING (name) ORDER BY c.name"
        ).fetchall()
        found = []
        for name, spec, credentials, sinks in rows:
            try:
                fields = json.loads(spec)
                source = Source(fields["source"], credentials).full
                found.append(CameraSpec.model_validate(fields | {"source": source, "sinks": _SINKS.validate_json(sinks)}))
            except (ValueError, KeyError, ValidationError) as error:
                raise ConfigError(f"{self._folder}: the camera {name!r} is not one of this version of Posewire: {error}") from None
        return found

    def put(self, camera: CameraSpec) -> None:
        """Add a camera, or change the one of this name.

        Raises:
            PosewireError: the disk cannot be written.
        """
        source = Source.parse(camera.source)
        spec = camera.model_copy(update={"source": source.address, "sinks": ()}).model_dump_json()
        sinks = json.dumps([_open_secrets(sink) for sink in camera.sinks])
        with self._writing():
            self._database.execute("INSERT OR REPLACE INTO main.cameras VALUES (?, ?)", [camera.name, spec])
            self._database.execute("INSERT OR REPLACE INTO hidden.secrets VALUES (?, ?, ?)", [camera.name, source.credentials, sinks])

    def remove(self, name: str) -> None:
        """Remove a camera and its secrets.

        Raises:
            PosewireError: the disk cannot be written.
        """
        with self._writing():
            self._database.execute("DELETE FROM main.cameras WHERE name = ?", [name])
            self._database.execute("DELETE FROM hidden.secrets WHERE name = ?", [name])

    def close(self) -> None:
        """Let another process have the store."""
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write both files or none."""
        try:
            self._database.execute("BEGIN EXCLUSIVE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            raise PosewireError(f"the cameras cannot be written: {error}") from None


class InUse(ConfigError):
    """Another process has the store."""


def _open_secrets(sink: Sink) -> dict[str, object]:
    """Return a sink with its secrets in clear."""
    fields = sink.model_dump(mode="json")
    secret = getattr(sink, "secret", None)
    return fields if secret is None else fields | {"secret": secret.get_secret_value()}
