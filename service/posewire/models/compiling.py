"""Published weights into what is served: the bytes of an ONNX graph, or of weights for Posewire's kernels."""

from collections.abc import Mapping
from pathlib import Path

from posewire.errors import PosewireError
from posewire.kernels.folded import fold, write
from posewire.kernels.network import supports
from posewire.models.litehrnet.checkpoint import read_checkpoint, require
from posewire.models.litehrnet.options import GraphOptions
from posewire.models.litehrnet.spec import Variant, parameters
from posewire.models.openvino_ir import read_ir
from posewire.models.rtmdet.spec import get_detector_variant
from posewire.types import FloatArray


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
    return compile_state(read_state(checkpoint, variant), variant, height, width, options)


def kernel_weights(checkpoint: Path, variant: Variant, *, sigmoid: bool = False) -> bytes | None:
    """The weights of a checkpoint for Posewire's kernels, for pictures of any size; None: they have not what the variant is made of.

    Raises:
        PosewireError: the checkpoint is not of the variant.
    """
    return kernel_state(read_state(checkpoint, variant), variant, sigmoid=sigmoid) if supports(variant) else None


def read_state(file: Path, variant: Variant, ir_weights: Path | None = None) -> dict[str, FloatArray]:
    """Read the tensors of a variant, by the names of `parameters`.

    Args:
        file: a checkpoint, or the XML of an OpenVINO IR.
        variant: of the file.
        ir_weights: the file of the IR's constants; None: `file` is a checkpoint.

    Raises:
        ModelError: a file is damaged, or not of the variant.
    """
    state = read_checkpoint(file) if ir_weights is None else read_ir(file, ir_weights, variant)
    return require(state, parameters(variant), source=file)


def compile_state(state: Mapping[str, FloatArray], variant: Variant, height: int, width: int, options: GraphOptions) -> bytes:
    """Compile the tensors of `read_state` to an ONNX graph.

    Raises:
        ModelError: a size does not fit, or a weight is too large for float16.
    """
    from posewire.models.litehrnet.graph import compile_graph  # noqa: PLC0415 - onnx is an extra

    return bytes(compile_graph(variant, state, height, width, options).SerializeToString())


def kernel_state(state: Mapping[str, FloatArray], variant: Variant, *, sigmoid: bool = False) -> bytes | None:
    """Fold the tensors of `read_state` into weights for Posewire's kernels; None: the kernels cannot run the variant."""
    return write(fold(variant, state, sigmoid=sigmoid)) if supports(variant) else None


def compile_published_detector(file: Path, variant: str) -> bytes:
    """Compile the ONNX export of a published RTMDet to our graph, for pictures of any size.

    Raises:
        ModelError: the file is damaged, or not of the variant.
    """
    from posewire.models.rtmdet.graph import compile_detector  # noqa: PLC0415 - onnx is an extra
    from posewire.models.rtmdet.published import published_weights  # noqa: PLC0415 - likewise

    described = get_detector_variant(variant)
    return bytes(compile_detector(described, published_weights(file.read_bytes(), described, str(file))).SerializeToString())
