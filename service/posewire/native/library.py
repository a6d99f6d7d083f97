"""The compiled kernels: found, loaded, and asked what this processor can run."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from posewire.errors import ModelError

# Where the build puts it (hatch_build.py).
FILE: Final = Path(__file__).with_name("_kernels.dll" if sys.platform == "win32" else "_kernels.so")


@dataclass(frozen=True, slots=True)
class Kernels:
    """Kernels that this processor can run."""

    level: str  # avx2, avx512; any: of an architecture with one build
    # posewire_run_LEVEL and posewire_shrink_LEVEL of run.cpp; other Python threads go on while they run
    run: Callable[..., None]
    shrink: Callable[..., None]


@cache
def load_kernels(file: Path = FILE, level: str | None = None) -> Kernels:
    """The kernels.

    Args:
        file: the library.
        level: a lesser one than this processor's best; None: the best.

    Raises:
        ModelError: they are not built, cannot be loaded, or are not for this processor; says what to do.
    """
    if not file.is_file():
        raise ModelError("Posewire's kernels are not built: install a C++ compiler or the package ziglang, then Posewire again")
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise ModelError(f"Posewire's kernels cannot be loaded: {error}; install Posewire again on this machine") from None
    library.posewire_level.restype = ctypes.c_char_p
    best = library.posewire_level().decode()
    if not best:
        raise ModelError("Posewire's kernels need a processor with AVX2")
    level = level or best
    run = getattr(library, f"posewire_run_{level}")
    run.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    shrink = getattr(library, f"posewire_shrink_{level}")
    size = [ctypes.c_int32, ctypes.c_int32]
    shrink.argtypes = [ctypes.c_void_p, ctypes.c_int64, *size, ctypes.c_void_p, ctypes.c_int64, *size, ctypes.c_void_p]
    run.restype = shrink.restype = None
    return Kernels(level, run, shrink)
