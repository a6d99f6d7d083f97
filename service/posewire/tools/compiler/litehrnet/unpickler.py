"""Read the pickles of `torch.save` by `pickle.Unpickler`, with a stand-in for every class: nothing that a file names is imported or called.

The opcodes are checked before the pickle is loaded, because some attacks need no call: a nested tuple as a dict key overflows the C
stack when it is hashed, and LONG_BINPUT allocates a memo of any length.
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
    """A stand-in for a class, and its instances, which ignore all that a pickle does to them."""

    __slots__ = ()
    origin: ClassVar[str] = "a persistent id that is not a storage's"  # module.name of the class in the pickle

    def __new__(cls, *arguments: object, **_: object) -> Any:
        """Return a `Tensor` if the class is a function of torch that returns one, else an instance."""
        match cls.origin, arguments:
            case "torch._utils._rebuild_tensor_v2", (Storage() as storage, int(offset), size, stride, *_):
                if _are_numbers((offset,)) and _are_numbers(size) and _are_numbers(stride):
                    return Tensor(storage, offset, size, stride)
            case "torch._utils._rebuild_parameter", (Tensor() | Opaque() as tensor, *_):
                return tensor
        return object.__new__(cls)

    @staticmethod  # BUILD may also reach the class
    def __setstate__(*_: object) -> None: ...

    append = extend = __setitem__ = __setstate__


class _StateDict(dict[object, object]):
    """An ordered dict without attributes; `Opaque` if it has arguments, which would be hashed."""

    def __new__(cls, *arguments: object, **_: object) -> Any:
        return Opaque() if arguments else super().__new__(cls)

    __setstate__ = staticmethod(Opaque.__setstate__)


def load_pickle(data: bytes, start: int, storages: dict[str, Storage]) -> tuple[object, int]:
    """Load the pickle that starts at byte `start`, and add its storages by their keys.

    Returns:
        Dicts, lists, tuples, scalars, `Tensor` and `Opaque`; and the first byte after the pickle.

    Raises:
        MalformedError: the pickle is damaged, far too long, or uses what torch does not write.
    """
    file = io.BytesIO(data)
    file.seek(start)
    try:
        _check_opcodes(file)
        return _Unpickler(data[start : file.tell()], storages).load(), file.tell()
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
        if full == "collections.OrderedDict":
            return _StateDict
        return self._opaque.get(full) or self._opaque.setdefault(full, type("Opaque", (Opaque,), {"__slots__": (), "origin": full}))

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
    return isinstance(value, tuple) and len(value) <= _MAX_DIMENSIONS and all(isinstance(n, int) and abs(n) < _MAX_NUMBER for n in value)


def _check_opcodes(file: io.BytesIO) -> None:
    """Read one pickle without loading it; raise MalformedError if loading could need too much time, memory or stack."""
    stack: list[int | None] = []  # values that are hashed if it is a dict key; 0: it must not be one; None: a mark
    memo: dict[int, int | None] = {}
    for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name, before = opcode.name, opcode.stack_before
        if step >= _MAX_STEPS:
            raise MalformedError(f"the pickle takes more than {_MAX_STEPS} steps")
        if name not in _OPCODES:
            raise MalformedError(f"the pickle is damaged, or not torch's: it has the opcode {name}")
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if argument is None else int(argument)
            if index > step:
                raise MalformedError("the pickle is damaged, or not torch's: its memo has gaps")
            memo[index] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "MARK":
            stack.append(None)
        else:
            items = stack[-len(before) :] if before else []
            if pickletools.markobject in before:
                items = list[int | None](iter(stack.pop, None))[::-1]
                before = before[: before.index(pickletools.markobject)]
            keys = items[1:2] if name == "SETITEM" else items[::2]
            if name in ("DICT", "SETITEM", "SETITEMS") and not all(keys):
                raise MalformedError("the pickle is damaged, or not torch's: a dict has a key that is not a name or a number")
            del stack[max(0, len(stack) - len(before)) :]
            count = int(isinstance(argument, str) or (isinstance(argument, int) and argument.bit_length() < 64))
            if "TUPLE" in name:
                count = 1 + sum(filter(None, items)) if all(items) else 0
            stack += [count if count <= _MAX_HASHED else 0] * len(opcode.stack_after)
