"""Builds the kernels into the package: one shared library with a build of them for each level of processor.

An installation uses the compiler that $CXX names, or c++, else the package ziglang, which pip then brings for the build. If none of
them works, the package has no kernels, and ONNX Runtime runs all models.

A release names its target in $KERNELS_TARGET, one of `_TARGETS`. It is built by ziglang on any machine, or not at all.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import mac_platforms


@dataclass(frozen=True)
class _Target:
    """A platform that the kernels are built for by ziglang."""

    triple: str  # of Zig: for Linux with the oldest glibc, for macOS with the oldest release
    tag: str  # the platform of the wheel's name


_TARGETS: Final = {
    "linux-x86_64": _Target("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux-aarch64": _Target("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "macosx-arm64": _Target("aarch64-macos.11.0", "macosx_11_0_arm64"),
    "macosx-x86_64": _Target("x86_64-macos.11.0", "macosx_11_0_x86_64"),
    "win-amd64": _Target("x86_64-windows-gnu", "win_amd64"),
}
_ZIGLANG: Final = "ziglang>=0.17"
_SOURCE: Final = Path("service/posewire/native/source")
_LEVELS: Final = {"avx2": "-march=x86-64-v3", "avx512": "-march=x86-64-v4"}
# No exceptions and no run-time types: the library must not need the C++ run-time library of the machine that built it.
_FLAGS: Final = "-std=c++17 -O3 -g0 -fPIC -fno-exceptions -fno-rtti -ffp-contract=fast -fno-math-errno -fvisibility=hidden -Wno-psabi"
# Before the SHA-256 at the end of the library; `posewire.native.library` compares it before it loads the library.
_SEAL: Final = b"\nposewire-sha256:"


class KernelsHook(BuildHookInterface[Any]):
    """Runs when a wheel or an editable install is built."""

    def dependencies(self) -> list[str]:
        """What the build needs of PyPI."""
        return [_ZIGLANG] if os.environ.get("KERNELS_TARGET") or not _compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library and make it part of the wheel. If no compiler works, a warning says so, and the wheel has no kernels.

        Raises:
            RuntimeError: the kernels cannot be built for the target that is named, or there is no such target.
        """
        named = None if version == "editable" else os.environ.get("KERNELS_TARGET")
        if named and named not in _TARGETS:
            raise RuntimeError(f"KERNELS_TARGET={named}: there is no such target; there are {', '.join(_TARGETS)}")
        platform = named or _machine()
        name = "_kernels.dll" if platform.startswith("win") else "_kernels.so"
        # The wheel's library is not left in the checkout, where an editable install has its own.
        self._folder = tempfile.TemporaryDirectory(prefix="posewire-kernels.")
        library = Path(self._folder.name, name)
        compiler = _compiler()
        try:
            _build(Path(self.root, _SOURCE), library, platform, None if named else compiler)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            if named:
                raise RuntimeError(f"the kernels cannot be built for {named}: {said}") from error
            self.app.display_warning(f"the kernels cannot be built, ONNX Runtime will run all models: {said}")
            return
        if version == "editable":
            _replace(library, Path(self.root, _SOURCE.parent, name))
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_TARGETS[named].tag if named else _tag()}"
        build_data["force_include"][str(library)] = f"posewire/native/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's interface
        """Remove what was built beside the wheel."""
        self._folder.cleanup()


def _compiler() -> list[str] | None:
    """The machine's compiler; None: there is none, ziglang is used."""
    if named := os.environ.get("CXX"):
        return shlex.split(named)
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    return [found] if found and sys.platform != "win32" else None


def _machine() -> str:
    """This machine in the words of `_TARGETS`, such as linux-x86_64 and macosx-arm64."""
    system, *_, machine = sysconfig.get_platform().split("-")
    return f"{system}-{os.uname().machine if system == 'macosx' else machine}"  # a Python for macOS may have two machines


def _tag() -> str:
    """The platform of a wheel for this machine alone, or for this macOS and later ones."""
    platform = next(mac_platforms()) if sys.platform == "darwin" else sysconfig.get_platform()
    return platform.replace("-", "_").replace(".", "_")


def _build(source: Path, library: Path, platform: str, compiler: list[str] | None) -> None:
    """Build the library.

    Args:
        source: folder of the C++.
        library: to be written.
        platform: as in `_TARGETS`.
        compiler: the machine's, for this machine; None: ziglang.

    Raises:
        OSError, subprocess.CalledProcessError: a compiler or a file is missing, or the compiler failed.
    """
    compile_, link, levels = _gnu(compiler) if compiler else _zig(platform)
    if not platform.endswith(("x86_64", "amd64")):
        levels = {"any": ""}
    folder = library.parent
    commands = [[*compile_, str(source / "level.cpp"), "-o", str(folder / "level.o")]]
    for level, flag in levels.items():
        flags = [f"-DLEVEL={level}", *flag.split()]
        commands.append([*compile_, *flags, str(source / "run.cpp"), "-o", str(folder / f"{level}.o")])
    # Zig would keep its caches in the home folder, and beside the project.
    environment = os.environ | {f"ZIG_{kind}_CACHE_DIR": str(folder / "zig") for kind in ("GLOBAL", "LOCAL")}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda command: _run(command, environment), commands))
    _run([*link, *(command[-1] for command in commands), "-o", str(library)], environment)
    if not platform.startswith("macosx"):  # its code signature must be the last
        _seal(library)


def _gnu(compiler: list[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """The commands of a compiler that takes GCC's options: to compile, to link, and its options for each level."""
    return [*compiler, *_FLAGS.split(), "-c"], [*compiler, "-shared"], _LEVELS


def _zig(platform: str) -> tuple[list[str], list[str], dict[str, str]]:
    """The commands of ziglang.

    The kernels need only memcpy and memset. No library is linked, so that Zig does not build its C and C++ libraries, which takes
    minutes. On Linux the process has them loaded, and the library needs no version of glibc. On macOS Zig links the system's library.
    """
    zig = [sys.executable, "-m", "ziglang", "c++"]
    zig += ["-target", _TARGETS[platform].triple] if platform in _TARGETS else ["-mcpu=baseline"]
    link = [*zig, "-shared", "-nostdlib", *(["-lucrtbase", "-Wl,--no-entry"] if platform.startswith("win") else [])]
    # Zig names processors in its own way, and checks for undefined behaviour unless told not to.
    levels = {level: flag.replace("-march=", "-mcpu=").replace("x86-64-", "x86_64_") for level, flag in _LEVELS.items()}
    return [*zig, *_FLAGS.split(), "-fno-sanitize=undefined", "-c"], link, levels


def _replace(library: Path, target: Path) -> None:
    """Put the library in place of another in one step; a process may have the other loaded."""
    beside = target.with_name(f"{target.name}.new")
    shutil.copy(library, beside)
    beside.replace(target)


def _seal(library: Path) -> None:
    """Add the SHA-256 of the library to its end, so that damage is noticed before it is loaded."""
    content = library.read_bytes()
    library.write_bytes(content + _SEAL + hashlib.sha256(content).digest())


def _run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - a compiler
