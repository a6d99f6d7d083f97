"""HTTP by hand: what a client does that no client library would do."""

import asyncio

from tests.server.streaming import Listening

HEAD = b"POST /v1/pose HTTP/1.1\r\nHost: posewire\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, server: Listening) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def half_close(self) -> None:
        """Send no more; answers can still be read."""
        self._writer.write_eof()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(60):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if line)
            return int(first.split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))

    async def ended(self) -> bool:
        """Whether the server has closed the connection."""
        return await self._reader.read(1) == b""

    def close(self) -> None:
        self._writer.close()
