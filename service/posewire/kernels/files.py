"""Files of weights for the kernels: safetensors whose metadata say what network they are of."""

from typing import Any, TypeAlias

import numpy.typing as npt

from posewire.errors import ModelError
from posewire.models.litehrnet.safetensors import read_metadata, read_safetensors
from posewire.models.litehrnet.tensors import MalformedError, Tensor, values

Array: TypeAlias = npt.NDArray[Any]


def read_file(data: bytes, name: str) -> tuple[dict[str, str], dict[str, Array]]:
    """Metadata and tensors of a file.

    Args:
        data: its bytes.
        name: of the model, for errors.

    Raises:
        ModelError: the bytes are damaged.
    """
    try:
        contents = read_safetensors(data)
        tree = contents.tree if isinstance(contents.tree, dict) else {}
        state = {key: values(tensor, contents, len(data)) for key, tensor in tree.items() if isinstance(tensor, Tensor)}
        return read_metadata(data), state
    except MalformedError as fault:
        raise ModelError(f"{name}: the weights for the kernels cannot be read: {fault}") from None
