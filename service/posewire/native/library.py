"""The compiled kernels: found, verified, loaded, and asked what this processor can run."""

import ctypes
import hashlib
import logging
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from posewire.errors import ModelError

log = logging.getLogger(__name__)

# Where the build puts it (hatch_build.py).
FILE: Final = Path(__file__).with_name("_kernels.dll" if sys.platform == "win32" else "_kernels.so")

# The end of the library, which the build adds (hatch_build.py): the SHA-256 of what is before it. It is part of the file, so that it
# is never that of another build. The loader of the system ignores it.
_SEAL: Final = b"\nposewire-sha256:"
_SEAL_BYTES: Final = len(_SEAL) + hashlib.sha256().digest_size

# ELF64, little-endian: where the header has the offsets, sizes and numbers of the program headers and of the sections.
_ELF: Final = b"\x7fELF\x02\x01"
_ELF_HEADER: Final = struct.Struct("<32xQQ6xHHHH2x")
_ELF_SEGMENT: Final = struct.Struct("<8xQ16xQ16x")  # offset and size in the file


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
        ModelError: they are not built, damaged, cannot be loaded, or are not for this processor; says what to do.
    """
    if not file.is_file():
        again = "install a C++ compiler, then Posewire again with pip's --force-reinstall --no-cache-dir"
        raise ModelError(f"Posewire's kernels are not built: {again}")
    if fault := _fault(file):
        raise ModelError(fault)
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


@cache
def _fault(file: Path) -> str | None:
    """Return why the library must not be loaded; None: it is whole. To load a damaged one may end the process."""
    try:
        content = file.read_bytes()
    except OSError as error:
        return f"Posewire's kernels cannot be read: {file}: {error.strerror}"
    body, seal = content[:-_SEAL_BYTES], content[-_SEAL_BYTES:]
    sealed = seal.startswith(_SEAL)  # not if it is cut short, or was built by hand
    if hashlib.sha256(body).digest() == seal[len(_SEAL) :] if sealed else _is_complete(content):
        return None
    log.warning("the kernels are damaged and are not used: ONNX Runtime runs the models", extra={"file": str(file)})
    return f"Posewire's kernels are damaged ({file}): install Posewire again"


def _is_complete(content: bytes) -> bool:
    """Return whether an ELF file has all bytes that its headers name. True for other formats: the system's loader checks those."""
    if not content.startswith(_ELF):
        return True
    try:
        segments_at, sections_at, segment_bytes, segments, section_bytes, sections = _ELF_HEADER.unpack_from(content)
        ends = [sections_at + section_bytes * sections]
        for index in range(segments):
            offset, size = _ELF_SEGMENT.unpack_from(content, segments_at + index * segment_bytes)
            ends.append(offset + size)
    except struct.error:  # the headers themselves are cut
        return False
    return bool(max(ends) <= len(content))
