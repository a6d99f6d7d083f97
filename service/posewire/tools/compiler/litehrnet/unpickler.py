"""The pickles of `torch.save`, read by `pickle.Unpickler` with stand-ins for every class: nothing that a file names is imported or called.

The opcodes are checked before the pickle is loaded, because some harm needs no call: a nested tuple as a dict key overflows the C stack
when it is hashed, and LONG_BINPUT allocates a memo of any length.
"""

import io
import pickle
import pickletools
from typing import Any, ClassVar, Final, TypeGuard

from posewire.registry.weights.tensors import MalformedError, quoted
from posewire.tools.compiler.litehrnet.storages import Storage, Tensor

# The state dict of Lite-HRNet-18 takes 44,000.
_MAX_STEPS: Final = 1_000_000
_MAX_NAME: Final = 1000  # characters
_MAX_CLASSES: Final = 1000
_MAX_HASHED: Final = 100  # values in a dict's key, which may be a tuple
_MAX_NUMBER: Final = 1 << 48
_MAX_DIMENSIONS: Final = 32
_OPCODES: Final = frozenset([
    "PROTO", "FRAME", "STOP", "MARK", "DUP", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT",
    "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BUILD", "BINPERSID",
])  # fmt: skip
_DTYPES: Final = dict(zip(
    ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped"),
    ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U8"),
    strict=True,
))  # fmt: skip


class Opaque:
    """A value that nobody needs: it accepts what a pickle does to an object, and keeps nothing."""

    __slots__ = ()
    origin: ClassVar[str] = "a persistent id that is not a storage's"  # module.name of the class in the pickle, for messages

    def __new__(cls, *_: object, **__: object) -> Any:
        """Ignore the arguments."""
        return object.__new__(cls)

    @staticmethod
    def __setstate__(_: object) -> None: ...  # static: BUILD may also reach the class
    def __setitem__(self, _: object, __: object) -> None: ...
    def append(self, _: object) -> None:
        """Ignore an item."""

    def extend(self, _: object) -> None:
        """Ignore items."""


class _StateDict(dict[object, object]):
    """An ordered dict without its attributes."""

    def __new__(cls, *arguments: object, **_: object) -> Any:
        return Opaque() if arguments else super().__new__(cls)

    @staticmethod
    def __setstate__(_: object) -> None: ...


class _RebuiltTensor(Opaque):
    origin = "torch._utils._rebuild_tensor_v2"

    def __new__(cls, *arguments: object, **_: object) -> Any:
        match arguments:
            case (Storage() as storage, int(offset), size, stride, *_):
                if _are_numbers((offset,)) and _are_numbers(size) and _are_numbers(stride):
                    return Tensor(storage, offset, size, stride)
        return super().__new__(cls)


class _Parameter(Opaque):
    origin = "torch._utils._rebuild_parameter"

    def __new__(cls, *arguments: object, **_: object) -> Any:
        return arguments[0] if arguments and isinstance(arguments[0], Tensor | Opaque) else super().__new__(cls)


_CLASSES: Final[dict[str, type]] = {
    "collections.OrderedDict": _StateDict,
    _RebuiltTensor.origin: _RebuiltTensor,
    _Parameter.origin: _Parameter,
}


class TorchPickles:
    """Reads pickles that follow one another in a buffer."""

    def __init__(self, data: bytes) -> None:
        self.storages: dict[str, Storage] = {}  # by key: all that the pickles mention
        self._data = data
        self.end = 0  # the first byte after the last pickle

    def load(self) -> object:
        """Return the next pickle: dicts, lists, tuples, scalars, `Tensor` and `Opaque`.

        Raises:
            MalformedError: the pickle is damaged, far too long, or uses what torch does not write.
        """
        file = io.BytesIO(self._data)
        file.seek(self.end)
        try:
            _check_opcodes(file)
            start, self.end = self.end, file.tell()
            return _Unpickler(self._data[start : self.end], self.storages).load()
        except MalformedError:
            raise
        except Exception as error:  # genops and Unpickler raise many types, and each means the same here
            raise MalformedError(f"the pickle is damaged, or not torch's: {quoted(str(error) or type(error).__name__)}") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storages: dict[str, Storage]) -> None:
        super().__init__(io.BytesIO(data))
        self._storages = storages
        self._opaque: dict[str, type] = {}

    def find_class(self, module: str, name: str, /) -> type:
        full = f"{module}.{name}"
        if len(full) > _MAX_NAME or len(self._opaque) >= _MAX_CLASSES:
            raise MalformedError(f"the pickle names more than {_MAX_CLASSES} classes, or one of more than {_MAX_NAME} characters")
        known = _CLASSES.get(full) or self._opaque.get(full)
        return known or self._opaque.setdefault(full, type("Opaque", (Opaque,), {"__slots__": (), "origin": full}))

    def persistent_load(self, pid: object, /) -> object:
        match pid:
            # A sixth field that is not None makes it a view of a storage, which no torch of the last years has written.
            case ("storage", type() as kind, str(key), _, int(numel)) | ("storage", type() as kind, str(key), _, int(numel), None):
                library, _, name = getattr(kind, "origin", "").rpartition(".")
                dtype = _DTYPES.get(name.lstrip("_").removesuffix("Storage")) if library.startswith("torch") else None
                if dtype and len(key) <= _MAX_NAME and _are_numbers((numel,)):
                    storage = Storage(key, dtype, numel)
                    if self._storages.setdefault(key, storage) != storage:
                        raise MalformedError(f"storage {quoted(key)} is given two sizes or types")
                    return storage
        return Opaque()


def _are_numbers(value: object) -> TypeGuard[tuple[int, ...]]:
    if not isinstance(value, tuple) or len(value) > _MAX_DIMENSIONS:
        return False
    return all(isinstance(number, int) and abs(number) < _MAX_NUMBER for number in value)


def _check_opcodes(file: io.BytesIO) -> None:
    """Read one pickle without loading it; raise MalformedError if loading could take too long, or too much memory or stack."""
    stack: list[int | None] = []  # how many values are hashed where it is a dict key, 0: it must not be one; None: a mark
    memo: dict[int, int | None] = {}
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name, before = opcode.name, opcode.stack_before
        if step >= _MAX_STEPS:
            raise MalformedError(f"the pickle takes more than {_MAX_STEPS} steps")
        if name not in _OPCODES:
            raise MalformedError(f"the pickle is damaged, or not torch's: it has the opcode {name}")
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if argument is None else int(argument)
            if place > step:
                raise MalformedError("the pickle is damaged, or not torch's: its memo has gaps")
            memo[place] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "MARK":
            stack.append(None)
        else:
            items = stack[-len(before) :] if before else []
            if pickletools.markobject in before:
                items = list[int | None](iter(stack.pop, None))[::-1]
                before = before[: before.index(pickletools.markobject)]
            elif name == "SETITEM":
                items = items[1:]
            if name in ("DICT", "SETITEM", "SETITEMS") and not all(items[::2]):
                raise MalformedError("the pickle is damaged, or not torch's: a dict has a key that is not a name or a number")
            del stack[max(0, len(stack) - len(before)) :]
            stack += [_hashed(name, argument, items)] * len(opcode.stack_after)


def _hashed(name: str, argument: object, items: list[int | None]) -> int:
    """Return how many values are hashed for a dict's key that the opcode makes of `items`; 0: it must not be a key."""
    if "TUPLE" in name:
        count = 1 + sum(item or 0 for item in items) if all(items) else 0
        return count if count <= _MAX_HASHED else 0
    return int(isinstance(argument, str) or (isinstance(argument, int) and argument.bit_length() < 64))
