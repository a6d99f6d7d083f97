"""C++ operators that make training on a CPU faster: `build` compiles them, once for each machine."""

from pathlib import Path

import torch
from torch.utils import cpp_extension

_SOURCE = Path(__file__).with_name("operators.cpp")


def build() -> None:
    """Compile the operators, or load what was compiled before; they are then in `torch.ops.posewire_training`.

    Raises:
        RuntimeError: there is no C++ compiler or no ninja, or the compiler fails; says what.
    """
    if not hasattr(torch.ops.posewire_training, "split"):
        cpp_extension.load("posewire_training", [str(_SOURCE)], extra_cflags=["-O3", "-march=native"], is_python_module=False)
