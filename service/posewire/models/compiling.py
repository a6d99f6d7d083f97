"""A checkpoint file into what is served: the bytes of an ONNX graph, or of weights for Posewire's kernels."""

from pathlib import Path

from posewire.errors import PosewireError
from posewire.kernels.folded import fold, write
from posewire.kernels.network import supports
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


def kernel_weights(checkpoint: Path, variant: Variant, *, sigmoid: bool = False) -> bytes | None:
    """The weights of a checkpoint for Posewire's kernels, for pictures of any size; None: they have not what the variant is made of.

    Raises:
        PosewireError: the checkpoint is not of the variant.
    """
    if not supports(variant):
        return None
    return write(fold(variant, require(read_checkpoint(checkpoint), parameters(variant), source=checkpoint), sigmoid=sigmoid))
