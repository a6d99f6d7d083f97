"""uvicorn's WebSockets, made safe against peers that do not read.

uvicorn closes a connection after all that was written to it has been sent. A peer that does not read, or whose network is
gone, would keep it open for as long as the kernel tries. So it is cut after a time.
"""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# For the close handshake.
_CLOSE_S = 2.0


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """For uvicorn's `ws`."""

    async def send(self, message: Any) -> None:
        """Send; a handshake that is answered over HTTP has an end, which uvicorn forgets, and logs as an error of the application."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer a ping; who sends pings and does not read the answers is cut off."""
        super().handle_ping()
        if not self.writable.is_set():
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """The peer has not answered a ping: nobody is there to close with."""
        super().keepalive_timeout()
        self.transport.abort()

    async def run_asgi(self) -> None:
        """Run the application, then leave the peer a moment to take in the close frame."""
        self.close_timeout = _CLOSE_S
        await super().run_asgi()
        asyncio.get_running_loop().call_later(_CLOSE_S, self.transport.abort)
