"""A checkpoint file into the bytes of the ONNX graph that is served."""

from pathlib import Path

from posewire.errors import PosewireError
from posewire.models.litehrnet.checkpoint import read_checkpoint, require
from posewire.models.litehrnet.options import GraphOptions
from posewire.models.litehrnet.spec import Variant, parameters


def require_compiler() -> None:
    """Say early that nothing can be compiled here.

    Raises:
        PosewireError: onnx is not installed.
    """
    try:
        import posewire.models.litehrnet.graph  # noqa: F401, PLC0415 - onnx is an extra
    except ImportError:
        raise PosewireError("compiling needs onnx: pip install 'posewire[compile]'") from None


def compile_checkpoint(checkpoint: Path, variant: Variant, height: int, width: int, options: GraphOptions) -> bytes:
    """Compile a checkpoint of a variant for pictures of `height` x `width` pixels.

    Raises:
        PosewireError: the checkpoint is not of the variant, a size does not fit, a weight is too large for float16, or onnx is
            not installed.
    """
    require_compiler()
    from posewire.models.litehrnet.graph import compile_graph  # noqa: PLC0415 - onnx is an extra

    state = require(read_checkpoint(checkpoint), parameters(variant), source=checkpoint)
    return bytes(compile_graph(variant, state, height, width, options).SerializeToString())
