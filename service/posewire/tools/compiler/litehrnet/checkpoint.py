"""Read published Lite-HRNet checkpoints as arrays, without torch and without calling anything that a pickle names.

The files of mmpose 0.x, mmpose 1.x and the authors are supported, in every container they use, under one set of names.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from posewire.errors import ModelError
from posewire.registry.weights.safetensors import read_safetensors
from posewire.registry.weights.tensors import Array, MalformedError, quoted
from posewire.tools.compiler.litehrnet.archives import read_legacy, read_zip
from posewire.tools.compiler.litehrnet.storages import Contents, Tensor, values
from posewire.tools.compiler.litehrnet.unpickler import Opaque
from posewire.types import FloatArray

_MAX_FILE_BYTES: Final = 1 << 28
# Bytes of memory per byte of the file: float16 is widened, and two tensors may share a storage. Without this limit, many
# views of one storage could need any amount.
_ROOM: Final = 4
_MAX_NAME: Final = 1000  # characters of a tensor's name
_NAMED: Final = 5  # faults of each kind in a message


def read_checkpoint(path: Path) -> dict[str, Array]:
    """Return the tensors of a checkpoint's state dict, by the network's names: `backbone.…`, `final_layer.weight`, `final_layer.bias`.

    The state dict is `state_dict`, `model`, `ema` (averaged weights of a training) or the file's own top level; the rest of
    the file is ignored, and so is `num_batches_tracked`.

    Args:
        path: a file of `torch.save` (zip, or the pickles of torch before 1.6) or of safetensors.

    Returns:
        Arrays in C order, in the order and with the dtypes of the file; bfloat16 as float32.

    Raises:
        ModelError: the file is missing, damaged, of another kind, or its state dict contains something else than tensors.
    """
    data = _read(path)
    try:
        contents = _read_contents(data)
        return _arrays(contents, _ROOM * len(data))
    except MalformedError as fault:
        raise ModelError(f"{path}: {fault}") from None


def require(
    state: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]], *, source: Path | str = "the checkpoint"
) -> dict[str, FloatArray]:
    """Return the tensors that a network needs, if the state has these and no others.

    Args:
        state: as from `read_checkpoint`.
        expected: shape by name.
        source: name of the state in the message, best its path.

    Returns:
        float32, finite, in the order of `expected`; float16 and float64 are converted.

    Raises:
        ModelError: names are missing or unexpected, shapes differ, or values are not finite floats; the message has up to five of each.
    """
    missing = (quoted(name) for name in expected if name not in state)
    surplus = (quoted(name) for name in state if name not in expected)
    misshapen, not_floats, not_finite = [], [], []
    result: dict[str, FloatArray] = {}
    for name, shape in expected.items():
        array = state.get(name)
        if array is None:
            continue
        if array.shape != tuple(shape):
            misshapen.append(f"{quoted(name)} is {array.shape}, not {tuple(shape)}")
        elif array.dtype.kind != "f":
            not_floats.append(f"{quoted(name)} is {array.dtype}")
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite results are reported below
                result[name] = array.astype(np.float32, copy=False)
            if not np.isfinite(result[name]).all():
                not_finite.append(quoted(name))
    kinds = {"missing": missing, "unexpected": surplus, "of another shape": misshapen, "not floats": not_floats, "not finite": not_finite}
    faults = [text for kind, names in kinds.items() if (text := _list(kind, names))]
    if faults:
        raise ModelError(f"{source}: not this network's weights: {'; '.join(faults)}")
    return result


def _list(kind: str, names: Iterable[str]) -> str:
    names = list(names)
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{more})" if names else ""


def _read(path: Path) -> bytes:
    try:
        # Checked before opening: opening a pipe waits for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: not a file")
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size > _MAX_FILE_BYTES:
                raise ModelError(f"{path}: {size} bytes; no Lite-HRNet checkpoint has more than {_MAX_FILE_BYTES}")
            return handle.read(size)
    except OSError as error:
        raise ModelError(f"{path}: the checkpoint cannot be read: {error.strerror}") from None


def _read_contents(data: bytes) -> Contents:
    if data.startswith(b"PK\x03\x04"):
        return read_zip(data)
    # Before the pickles: the length of a header may begin with any byte.
    if data[8:9] == b"{":
        arrays, _ = read_safetensors(data)
        return Contents(arrays, bytes_of=lambda _: b"")
    if data.startswith(b"\x80"):
        return read_legacy(data)
    if data[257:262] == b"ustar":
        raise MalformedError("the tar format of torch before 0.1.10 is not supported; load and save it again with a newer torch")
    raise MalformedError("not a checkpoint: neither a file of torch.save nor safetensors")


def _arrays(contents: Contents, room: int) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for key, value in _state_dict(contents.tree).items():
        if not isinstance(key, str) or len(key) > _MAX_NAME:
            raise MalformedError("the state dict has a key that is not a name")
        name = _network_name(key)
        if name.endswith("num_batches_tracked"):
            continue
        if not isinstance(value, Tensor | np.ndarray):
            raise MalformedError(f"{quoted(key)} of the state dict is not a tensor but {_kind(value)}")
        if name in arrays:
            raise MalformedError(f"two tensors of the state dict are the network's {quoted(name)}")
        try:
            arrays[name] = values(value, contents, room) if isinstance(value, Tensor) else value
        except MalformedError as fault:
            raise MalformedError(f"{quoted(key)}: {fault}") from None
        room -= arrays[name].nbytes
    return arrays


def _state_dict(tree: object) -> dict[object, object]:
    if not isinstance(tree, dict):
        raise MalformedError(f"holds {_kind(tree)}, not a state dict")
    for name in ("state_dict", "model", "ema"):
        if name in tree:
            found = tree[name]
            if not isinstance(found, dict):
                raise MalformedError(f"{name!r} is {_kind(found)}, not a state dict; save the model's state_dict() instead")
            return found
    if not any(isinstance(value, Tensor | np.ndarray) for value in tree.values()):
        keys = ", ".join(quoted(key) for key in list(tree)[:_NAMED] if isinstance(key, str))
        raise MalformedError(
            f"has no state dict: none of 'state_dict', 'model' and 'ema', and no tensors at its top level, which has: {keys or 'nothing'}"
        )
    return tree


def _network_name(key: str) -> str:
    name = key.removeprefix("module.")  # of DataParallel
    for head in ("keypoint_head.", "head."):  # of mmpose 0.x and the authors; of mmpose 1.x
        if name.startswith(f"{head}final_layer."):
            return name.removeprefix(head)
    return name


def _kind(value: object) -> str:
    return f"made by {quoted(value.origin)}" if isinstance(value, Opaque) else f"of type {type(value).__name__}"
