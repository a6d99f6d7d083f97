"""The opcodes of a pickle, one by one: those of protocols 2 to 5, which torch writes, less EXT and out-of-band buffers."""

import pickle
from struct import Struct
from typing import Any, Final

from posewire.registry.weights.tensors import MalformedError

_BYTE, _SHORT, _INT, _LONG = Struct("B"), Struct("<H"), Struct("<I"), Struct("<Q")

NUMBERS: Final = {pickle.BININT: Struct("<i"), pickle.BININT1: _BYTE, pickle.BININT2: _SHORT, pickle.BINFLOAT: Struct(">d")}
TEXTS: Final = {pickle.BINUNICODE: _INT, pickle.SHORT_BINUNICODE: _BYTE, pickle.BINUNICODE8: _LONG}
BYTES: Final = {pickle.BINBYTES: _INT, pickle.SHORT_BINBYTES: _BYTE, pickle.BINBYTES8: _LONG, pickle.BYTEARRAY8: _LONG}
INTEGERS: Final = {pickle.LONG1: _BYTE, pickle.LONG4: _INT}
_PLACES: Final = {pickle.BINPUT: _BYTE, pickle.LONG_BINPUT: _INT, pickle.BINGET: _BYTE, pickle.LONG_BINGET: _INT}
_FIXED: Final = NUMBERS | _PLACES | {pickle.PROTO: _BYTE, pickle.FRAME: _LONG}


class OpcodeReader:
    """Reads opcodes with their arguments; takes no more memory than the buffer has bytes."""

    def __init__(self, data: bytes) -> None:
        self.at = 0  # the next byte to read
        self._data = data

    def next(self) -> tuple[bytes, Any]:
        """The next opcode, and its argument: int, float, str or bytes; module.name for GLOBAL; else None.

        Raises:
            MalformedError: the buffer ends, or a text is not UTF-8.
        """
        code = self.take(1)
        try:
            return code, self._argument(code)
        except ValueError:
            raise MalformedError(f"the pickle is damaged: a text before byte {self.at} is not UTF-8, or has no end") from None

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            MalformedError: there are fewer.
        """
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise MalformedError("the pickle is cut short")
        self.at += count
        return taken

    def _argument(self, code: bytes) -> object:
        if code in _FIXED:
            return self._number(_FIXED[code])
        if code in TEXTS:
            return self.take(self._number(TEXTS[code])).decode("utf-8", "surrogatepass")
        if code in BYTES:
            return self.take(self._number(BYTES[code]))
        if code in INTEGERS:
            return int.from_bytes(self.take(self._number(INTEGERS[code])), "little", signed=True)
        if code == pickle.GLOBAL:
            return f"{self._line()}.{self._line()}"
        return None

    def _number(self, layout: Struct) -> Any:
        (number,) = layout.unpack(self.take(layout.size))
        return number

    def _line(self) -> str:
        return self.take(self._data.index(b"\n", self.at) + 1 - self.at)[:-1].decode()
