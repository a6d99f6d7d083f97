"""IPC channels: objects between processes of one machine, one message each, with the content of large arrays outside the pickle.

An encoded image is `bytes`, which a pickle contains; it is copied once more than the content of an array is.
A message is a datagram of a `SOCK_SEQPACKET` socket: several processes may read from one socket, and exactly one of them
receives a message. A message that is too large for a datagram is sent as the descriptor of a memory file: it may have any
size, and no sender blocks on a full pipe. Only Linux has all of this; elsewhere `AVAILABLE` is false. Both ends are processes
of the service, so messages are pickled.
"""

import os
import pickle
import socket
import struct
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np

assert sys.platform == "linux"  # mypy skips the rest elsewhere, where nothing imports this module

AVAILABLE: Final = hasattr(os, "memfd_create") and hasattr(socket, "SOCK_SEQPACKET")

# The largest datagram. It holds an encoded image of a camera, and is faster than a memory file.
_DATAGRAM: Final = 131_072
_COUNT: Final = struct.Struct("<I")

# Smaller buffers are pickled with the rest: a piece of its own would cost more.
_PIECE: Final = 1_024
_MAX_PIECES: Final = 500  # a writev takes 1024

# Memory files that are kept for reuse: writing to a new one is slower.
_KEPT_FILES: Final = 8
_KEPT_BYTES: Final = 8_388_608


class Channel:
    """One end of a connection: `send` here, `receive` there.

    Args:
        end: a `SOCK_SEQPACKET` socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._datagram = memoryview(bytearray(_DATAGRAM))
        self._files: list[int] = []

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Return two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (one, other):  # space for some datagrams, as far as the system allows
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * _DATAGRAM)
        return cls(one), cls(other)

    def send(self, message: object) -> int | None:
        """Send an object; its arrays and `pickle.PickleBuffer`s are copied once.

        Returns:
            The memory file, if one was needed: `give_back` it when the other end has answered, or close it.

        Raises:
            OSError: the other end is closed, or a non-blocking socket is full.
        """
        pieces: list[pickle.PickleBuffer] = []

        def pickle_inline(piece: pickle.PickleBuffer) -> bool:
            if piece.raw().nbytes < _PIECE or len(pieces) == _MAX_PIECES:
                return True
            pieces.append(piece)
            return False

        pickled = pickle.dumps(message, 5, buffer_callback=pickle_inline)
        parts = [memoryview(pickled), *(piece.raw() for piece in pieces)]
        head = struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts))
        if len(head) + sum(part.nbytes for part in parts) <= _DATAGRAM:
            try:
                self.socket.sendmsg([head, *parts])
            except BlockingIOError:
                pass  # a datagram with only a descriptor may still fit
            else:
                return None
        file = self._files.pop() if self._files else os.memfd_create("posewire")
        try:
            _write(file, parts)
            socket.send_fds(self.socket, [head], [file])
        except BaseException:
            os.close(file)
            raise
        return file

    def give_back(self, file: int) -> None:
        """Keep a memory file, which the other end no longer needs, for a later message."""
        if len(self._files) < _KEPT_FILES and os.fstat(file).st_size <= _KEPT_BYTES:
            self._files.append(file)
        else:
            os.close(file)

    def receive(self) -> Any:
        """Return the next object.

        Raises:
            EOFError: the other end is closed.
            BlockingIOError: the socket does not block, and there is no message.
        """
        size, ancillary, _, _ = self.socket.recvmsg_into([self._datagram], socket.CMSG_SPACE(4))
        if not size:
            raise EOFError("the other end is closed")
        files = [struct.unpack("i", data)[0] for _, _, data in ancillary]
        [count] = _COUNT.unpack_from(self._datagram)
        start = _COUNT.size + 8 * count
        sizes = struct.unpack_from(f"<{count}Q", self._datagram, _COUNT.size)
        body = memoryview(bytearray(self._datagram[start:size]))
        if files:
            try:
                body = _read(files[0], sum(sizes))
            finally:
                os.close(files[0])
        ends = list(accumulate(sizes))
        parts = [body[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - of a process that started this one, or that this one started

    def close(self) -> None:
        """Close the socket and the kept files."""
        self.socket.close()
        for file in self._files:
            os.close(file)
        self._files.clear()


def _write(file: int, parts: Sequence[memoryview]) -> None:
    remaining, at = list(parts), 0
    while remaining:
        written = os.pwritev(file, remaining, at)
        at += written
        while remaining and written >= remaining[0].nbytes:
            written -= remaining.pop(0).nbytes
        if written:
            remaining[0] = remaining[0][written:]


def _read(file: int, size: int) -> memoryview:
    into, at = np.empty(size, np.uint8).data, 0
    while at < size:
        read = os.preadv(file, [into[at:]], at)
        if not read:
            raise EOFError("the memory file is shorter than its message")
        at += read
    return into
