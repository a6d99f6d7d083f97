"""ONNX Runtime, imported at its first use: a command without it says in one line what to install."""

from functools import cache
from importlib import import_module
from typing import Any

from posewire.errors import DeviceError


@cache
def onnx_runtime() -> Any:
    """Return the module of ONNX Runtime, which has no types; it is a `Runtime`.

    Raises:
        DeviceError: it is not installed, or its installation is damaged; the message names the remedy.
    """
    try:
        return import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise DeviceError(_broken(error)) from None
        raise DeviceError(
            "ONNX Runtime is not installed: pip install onnxruntime, or for an NVIDIA GPU pip install 'posewire[gpu]'"
        ) from None
    except ImportError as error:
        raise DeviceError(_broken(error)) from None


def _broken(error: ImportError) -> str:
    return f"ONNX Runtime cannot be imported ({str(error).splitlines()[0]}): pip install --force-reinstall onnxruntime"
