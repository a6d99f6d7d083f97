"""Is ONNX Runtime installed as it must be? It comes in packages that share one folder, so that one can damage the other."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

from posewire.errors import DeviceError

_GPU: Final = "'onnxruntime-gpu[cuda,cudnn]'"
# The packages with a folder `onnxruntime`: for CPUs, and for CUDA.
_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu")
_REPAIR: Final = f"pip uninstall -y {' '.join(_PACKAGES)}, then pip install onnxruntime, or for a GPU pip install {_GPU}"


def check_runtime() -> str | None:
    """Check that ONNX Runtime is there, without the time that its import takes.

    Returns:
        A warning if both packages are installed: the one that was installed last has overwritten the other. None: all is well.

    Raises:
        DeviceError: it is missing or damaged; says what to install.
    """
    spec = find_spec("onnxruntime")
    if spec is None:
        raise DeviceError(f"ONNX Runtime is not installed: pip install onnxruntime, or for a GPU pip install {_GPU}")
    if spec.origin is None:  # a folder without its modules: what is left if one of two packages was removed
        raise DeviceError(f"ONNX Runtime is damaged: {_REPAIR}")
    if all(map(_is_installed, _PACKAGES)):
        return f"onnxruntime and onnxruntime-gpu are both installed, and one has overwritten the other: {_REPAIR}"
    return None


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
