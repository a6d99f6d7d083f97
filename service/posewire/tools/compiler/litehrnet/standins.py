"""What stands for Python objects in a pickle that is read without Python: data for what makes up a state dict, else nothing."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeGuard

from posewire.registry.weights.tensors import Storage, Tensor

# A name or number may be used again at every step of the pickle, so each has to be cheap to join, compare and add.
_LONGEST_NAME: Final = 1000
_LARGEST_NUMBER: Final = 1 << 48
_MOST_DIMENSIONS: Final = 32
_STORAGES: Final = MappingProxyType(
    {
        "torch.DoubleStorage": "F64",
        "torch.FloatStorage": "F32",
        "torch.HalfStorage": "F16",
        "torch.BFloat16Storage": "BF16",
        "torch.LongStorage": "I64",
        "torch.IntStorage": "I32",
        "torch.ShortStorage": "I16",
        "torch.CharStorage": "I8",
        "torch.ByteStorage": "U8",
        "torch.BoolStorage": "BOOL",
        "torch.UntypedStorage": "U8",
        "torch.storage.UntypedStorage": "U8",
        "torch.storage._UntypedStorage": "U8",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Something that is neither plain data nor a tensor: it swallows whatever the pickle does to it."""

    origin: str  # what it would have been, for messages


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function that the pickle names; nobody ever looks it up."""

    name: str  # module.name


def called(function: object, arguments: object) -> object:
    """What calling `function` gives: a dict, a `Tensor`, or an `Opaque` for all that Posewire has no need of."""
    name = function.name if isinstance(function, Global) else "something that is not a class"
    match name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "torch._utils._rebuild_tensor_v2", (Storage() as storage, int(offset), size, stride, *_):
            if _numbers((offset,)) and _numbers(size) and _numbers(stride):
                return Tensor(storage, offset, size, stride)
        case "torch._utils._rebuild_parameter", (data, _, _):
            return data
    return Opaque(name)


def persistent(identity: object) -> object:
    """What torch keeps outside the pickle: a `Storage`; an `Opaque` for the source of a module and for kinds unknown."""
    match identity:
        # A sixth field that is not None makes it a view of a storage, which no torch of the last years has written.
        case ("storage", Global(name=name), str(key), _, int(numel)) | ("storage", Global(name=name), str(key), _, int(numel), None):
            if name in _STORAGES and is_name(key) and _numbers((numel,)):
                return Storage(key, _STORAGES[name], numel)
            return Opaque(f"a storage of type {name}")
    return Opaque("a persistent id that is not a storage's")


def is_name(value: object) -> TypeGuard[str]:
    """A text that can be the name of something."""
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _numbers(value: object) -> TypeGuard[tuple[int, ...]]:
    if not isinstance(value, tuple) or len(value) > _MOST_DIMENSIONS:
        return False
    return all(isinstance(number, int) and abs(number) < _LARGEST_NUMBER for number in value)
