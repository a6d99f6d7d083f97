"""Objects between processes of this machine, as one message each, with pixels and encoded images beside the pickle.

A message is a datagram of a `SOCK_SEQPACKET` socket: several processes may read from one socket, and each message reaches one
of them, whole. What is too large for a datagram lies in a memory file whose descriptor goes with it: a message may have any
size, and nobody blocks on a full pipe. Linux has all of this; where it is missing, `AVAILABLE` is false. At the other end
is a process of ours, so messages are pickled.
"""

import os
import pickle
import socket
import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np

AVAILABLE: Final = hasattr(os, "memfd_create") and hasattr(socket, "SOCK_SEQPACKET")

# An image as cameras send it goes by datagram, in a fifth of the time that a memory file takes.
_DATAGRAM: Final = 131_072
_COUNT: Final = struct.Struct("<I")

# What has fewer bytes is pickled with the rest: a piece of its own would cost more.
_PIECE: Final = 1_024
_MAX_PIECES: Final = 500  # a writev takes 1024

# A memory file that was used before is written in a fifth of the time of a new one; these are kept.
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
        """Two connected ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (one, other):  # as far as the system allows: room for some datagrams
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * _DATAGRAM)
        return cls(one), cls(other)

    def send(self, message: object) -> int | None:
        """Send an object; its arrays and `pickle.PickleBuffer`s are copied once.

        Returns:
            The memory file, where one was needed: `give_back` it when the other end has answered, or close it.

        Raises:
            OSError: the other end has gone, or a socket that does not block is full.
        """
        pieces: list[pickle.PickleBuffer] = []

        def with_the_rest(piece: pickle.PickleBuffer) -> bool:
            if piece.raw().nbytes < _PIECE or len(pieces) == _MAX_PIECES:
                return True
            pieces.append(piece)
            return False

        rest = pickle.dumps(message, 5, buffer_callback=with_the_rest)
        parts = [memoryview(rest), *(piece.raw() for piece in pieces)]
        head = struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts))
        if len(head) + sum(part.nbytes for part in parts) <= _DATAGRAM:
            try:
                self.socket.sendmsg([head, *parts])
            except BlockingIOError:
                pass  # a datagram that holds no more than a descriptor may find room
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
        """Keep a memory file for what is sent next; the other end is done with it."""
        if len(self._files) < _KEPT_FILES and os.fstat(file).st_size <= _KEPT_BYTES:
            self._files.append(file)
        else:
            os.close(file)

    def receive(self) -> Any:
        """The next object.

        Raises:
            EOFError: the other end has gone.
            BlockingIOError: the socket does not block, and there is nothing.
        """
        size, ancillary, _, _ = self.socket.recvmsg_into([self._datagram], socket.CMSG_SPACE(4))
        if not size:
            raise EOFError("the other end has gone")
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
        """Close the socket and the files that were kept."""
        self.socket.close()
        for file in self._files:
            os.close(file)
        self._files.clear()


def _write(file: int, parts: Sequence[memoryview]) -> None:
    left, at = list(parts), 0
    while left:
        written = os.pwritev(file, left, at)
        at += written
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if written:
            left[0] = left[0][written:]


def _read(file: int, size: int) -> memoryview:
    into, at = np.empty(size, np.uint8).data, 0
    while at < size:
        read = os.preadv(file, [into[at:]], at)
        if not read:
            raise EOFError("the memory file is shorter than was said")
        at += read
    return into
