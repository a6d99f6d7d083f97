"""Messages that wait on disk until they are delivered: bounded, in order, and safe over a restart."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from posewire.errors import PosewireError
from posewire.files import make_folder

MAX_MESSAGES = 100_000
MAX_BYTES = 256_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS spool (name TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first message that waits."""

    number: int
    message_id: str
    body: bytes
    attempts: int  # that have begun


class Spool:
    """A queue in a file of SQLite. One thread at a time may use it.

    Args:
        path: of the file; its folder is made.
        max_messages: above it the oldest are dropped.
        max_bytes: of all bodies; above it the oldest are dropped.

    Raises:
        PosewireError: the file cannot be opened, is damaged, or another process uses it.
    """

    def __init__(self, path: Path, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        make_folder(path.parent)
        self._path = path
        self._max_messages, self._max_bytes = max_messages, max_bytes
        try:
            self._database = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
            # Exclusive: two processes would deliver each message twice. The normal level is safe against a crash of the process.
            self._database.executescript("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
            self._database.execute("INSERT INTO spool SELECT ? WHERE NOT EXISTS (SELECT * FROM spool)", [secrets.token_hex(8)])
            [self._name] = self._database.execute("SELECT name FROM spool").fetchone()
            self._count, self._bytes = self._database.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM messages").fetchone()
        except sqlite3.Error as error:
            raise PosewireError(f"{path} cannot be used for messages that wait: {error}") from None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return int(self._count)

    def put(self, body: bytes) -> int:
        """Add a message; return how many of the oldest were dropped for it.

        Raises:
            PosewireError: the disk is full or cannot be written.
        """
        dropped = 0
        with self._writing():
            with closing(self._database.execute("INSERT INTO messages (body) VALUES (?)", [body])):
                self._count, self._bytes = self._count + 1, self._bytes + len(body)
            while self._count > 1 and (self._count > self._max_messages or self._bytes > self._max_bytes):
                number, size = self._database.execute("SELECT number, length(body) FROM messages ORDER BY number LIMIT 1").fetchone()
                self._remove(number, size)
                dropped += 1
        return dropped

    def first(self) -> Waiting | None:
        """Return the oldest message, and note that an attempt to deliver it begins; None: none waits.

        Raises:
            PosewireError: the disk is full or cannot be written.
        """
        with self._writing():
            row = self._database.execute(
                "UPDATE messages SET attempts = attempts + 1 WHERE number = (SELECT min(number) FROM messages) "
                "RETURNING number, body, attempts"
            ).fetchone()
        return None if row is None else Waiting(row[0], f"{self._name}-{row[0]}", bytes(row[1]), row[2])

    def done(self, waiting: Waiting) -> None:
        """Remove a message: it is delivered, or nobody will ever take it. It may have been dropped in the meantime.

        Raises:
            PosewireError: the disk is full or cannot be written.
        """
        with self._writing():
            self._remove(waiting.number, len(waiting.body))

    def _remove(self, number: int, size: int) -> None:
        if self._database.execute("DELETE FROM messages WHERE number = ?", [number]).rowcount:
            self._count, self._bytes = self._count - 1, self._bytes - size

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PosewireError(f"{self._path} cannot be written: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()
