"""Builds the kernels into the package: one shared library with a build of them for each level of processor.

With the compiler that $CXX names, or c++, else with the package ziglang, which pip then brings for the build.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE: Final = Path("service/posewire/native/source")
_LEVELS: Final = {"avx2": "-march=x86-64-v3", "avx512": "-march=x86-64-v4"}
# No exceptions and no run-time types: the library must not need the C++ run-time library of the machine that built it.
_FLAGS: Final = "-std=c++17 -O3 -fPIC -fno-exceptions -fno-rtti -ffp-contract=fast -fno-math-errno -fvisibility=hidden -Wno-psabi"
_X86: Final = {"x86_64", "amd64"}
# Before the SHA-256 at the end of the library; `posewire.native.library` compares it before it loads the library.
_SEAL: Final = b"\nposewire-sha256:"


def _compiler() -> list[str] | None:
    if named := os.environ.get("CXX"):
        return shlex.split(named)
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    return [found] if found else None


def _flags(compiler: list[str], level: str) -> list[str]:
    flags = _FLAGS.split()
    if "ziglang" in compiler:  # names processors in its own way, and checks for undefined behaviour unless told not to
        level_flag = _LEVELS.get(level, "").replace("-march=", "-mcpu=").replace("x86-64-", "x86_64_")
        return [*flags, "-fno-sanitize=undefined", *([level_flag] if level_flag else [])]
    return [*flags, *([_LEVELS[level]] if level in _LEVELS else [])]


class KernelsHook(BuildHookInterface):  # type: ignore[misc] # hatchling is not typed for plugins
    """Runs when a wheel or an editable install is built."""

    def dependencies(self) -> list[str]:
        """What the build needs of PyPI."""
        return [] if _compiler() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library and make it part of the wheel.

        Raises:
            RuntimeError: the compiler failed; for an editable install a warning: it serves on ONNX Runtime then.
        """
        library = Path(self.root, _SOURCE.parent, "_kernels.dll" if sys.platform == "win32" else "_kernels.so")
        try:
            self._build(library)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            if version != "editable":
                raise RuntimeError(f"the kernels cannot be built: {said}") from error
            self.app.display_warning(f"the kernels cannot be built, Lite-HRNet will run on ONNX Runtime: {said}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(library)] = f"posewire/native/{library.name}"

    def _build(self, library: Path) -> None:
        compiler = _compiler() or [sys.executable, "-m", "ziglang", "c++"]
        source = Path(self.root, _SOURCE)
        levels = list(_LEVELS) if platform.machine().lower() in _X86 else ["any"]
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=f"{library.stem}.") as folder:
            objects = [Path(folder, f"{name}.o") for name in ("level", *levels)]
            _run([*compiler, *_flags(compiler, ""), "-c", str(source / "level.cpp"), "-o", str(objects[0])])
            for level, target in zip(levels, objects[1:], strict=True):
                command = [*compiler, *_flags(compiler, level), f"-DLEVEL={level}", "-c", str(source / "run.cpp"), "-o", str(target)]
                _run(command)
            whole = Path(folder, library.name)
            _run([*compiler, "-shared", *map(str, objects), "-o", str(whole)])
            if sys.platform != "darwin":  # its code signature must be the last
                _seal(whole)
            whole.replace(library)


def _seal(library: Path) -> None:
    """Add the SHA-256 of the library to its end, so that damage is noticed before it is loaded."""
    content = library.read_bytes()
    library.write_bytes(content + _SEAL + hashlib.sha256(content).digest())


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - a compiler
