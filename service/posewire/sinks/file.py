"""Messages to a file of JSON lines that rotates."""

import asyncio
import os
import secrets
from pathlib import Path

from posewire.errors import PosewireError
from posewire.files import make_folder, open_own
from posewire.schemas.sinks import FileSink
from posewire.sinks.base import Message


class FileLines:
    """Appends whole lines. A file that a crash cut in the midst of a line gets the rest of the line's end first.

    Args:
        sink: the file and its limits.

    Raises:
        PosewireError: the file cannot be written.
    """

    def __init__(self, sink: FileSink) -> None:
        self._sink = sink
        self._path = Path(sink.path)
        self._run = secrets.token_hex(8)
        self._number = 0
        make_folder(self._path.parent)
        self._handle, self._bytes = self._open()

    async def put(self, message: Message) -> None:
        """Write a line.

        Raises:
            PosewireError: it cannot be written.
        """
        self._number += 1
        line = message.delivery(f"{self._run}-{self._number}", 1).model_dump_json().encode() + b"\n"
        await asyncio.to_thread(self._write, line)

    async def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def _open(self) -> tuple[int, int]:
        try:
            handle = open_own(self._path)
            size = os.fstat(handle).st_size
            if size:
                os.lseek(handle, -1, os.SEEK_END)
                if os.read(handle, 1) != b"\n":
                    size += os.write(handle, b"\n")
        except OSError as error:
            raise PosewireError(f"{self._path} cannot be written: {error.strerror}") from None
        return handle, size

    def _write(self, line: bytes) -> None:
        try:
            if self._bytes and self._bytes + len(line) > self._sink.max_bytes:
                os.close(self._handle)
                self._rotate()
                self._handle, self._bytes = self._open()
            written = 0
            while written < len(line):
                written += os.write(self._handle, line[written:])
        except OSError as error:
            raise PosewireError(f"{self._path} cannot be written: {error.strerror}") from None
        self._bytes += len(line)

    def _rotate(self) -> None:
        numbered = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._sink.keep + 1))]
        numbered[-1].unlink(missing_ok=True)
        for older, newer in zip(numbered[:0:-1], numbered[-2::-1], strict=True):
            if newer.exists():
                newer.replace(older)
