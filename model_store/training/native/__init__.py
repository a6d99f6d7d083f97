"""C++ operators that make training on a CPU faster: `build` compiles them, once for each machine."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("operators.cpp")


def build() -> None:
    """Compile the operators, or load what was compiled before; they are then in `torch.ops.posewire_training`.

    The first time takes half a minute. What is compiled is kept where torch keeps its extensions (`TORCH_EXTENSIONS_DIR`).

    Raises:
        RuntimeError: there is no C++ compiler or no ninja, or the compiler fails; says what, and what to do.
    """
    if hasattr(torch.ops.posewire_training, "split"):
        return
    if shutil.which("ninja") is None:  # pip puts it beside a Python whose environment need not be active
        os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    from torch.utils import cpp_extension  # noqa: PLC0415 - looks for CUDA, and says on standard error that it has not found it

    try:
        cpp_extension.load("posewire_training", [str(_SOURCE)], extra_cflags=["-O3", "-march=native"], is_python_module=False)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"the C++ operators need g++ and ninja (pip install ninja); training works without them: {error}") from error
