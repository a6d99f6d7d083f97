"""Compile published weights to an ONNX graph, or to weights for Posewire's kernels."""

from collections.abc import Mapping
from pathlib import Path

from posewire.backends.cpu_kernels.folded import fold, write
from posewire.backends.cpu_kernels.network import supports
from posewire.errors import PosewireError
from posewire.registry.networks.litehrnet.spec import Variant, parameters
from posewire.registry.networks.rtmdet import get_detector_variant
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint, require
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.openvino_ir import read_ir
from posewire.types import FloatArray


def require_compiler() -> None:
    """Check that the compiler can run.

    Raises:
        PosewireError: onnx is not installed.
    """
    try:
        import posewire.tools.compiler.litehrnet.graph  # noqa: F401 - onnx is an extra
    except ImportError:
        raise PosewireError("compiling needs onnx: pip install 'posewire[compile]'") from None


def compile_checkpoint(checkpoint: Path, variant: Variant, height: int, width: int, options: GraphOptions) -> bytes:
    """Compile a checkpoint of a variant for images of `height` x `width` pixels.

    Raises:
        PosewireError: the checkpoint is not of the variant, a size does not fit, a weight is too large for float16, or onnx is
            not installed.
    """
    require_compiler()
    return compile_state(read_state(checkpoint, variant), variant, height, width, options)


def kernel_weights(checkpoint: Path, variant: Variant, *, sigmoid: bool = False) -> bytes | None:
    """Fold the weights of a checkpoint for Posewire's kernels, for images of any size; None: the kernels cannot run the variant.

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
    from posewire.tools.compiler.litehrnet.graph import compile_graph

    return bytes(compile_graph(variant, state, height, width, options).SerializeToString())


def kernel_state(state: Mapping[str, FloatArray], variant: Variant, *, sigmoid: bool = False) -> bytes | None:
    """Fold the tensors of `read_state` into weights for Posewire's kernels; None: the kernels cannot run the variant."""
    return write(fold(variant, state, sigmoid=sigmoid)) if supports(variant) else None


def compile_published_detector(file: Path, variant: str) -> bytes:
    """Compile the ONNX export of a published RTMDet to our graph, for images of any size.

    Raises:
        ModelError: the file is damaged, or not of the variant.
    """
    from posewire.tools.compiler.rtmdet.graph import compile_detector
    from posewire.tools.compiler.rtmdet.published import published_weights

    described = get_detector_variant(variant)
    return bytes(compile_detector(described, published_weights(file.read_bytes(), described, str(file))).SerializeToString())
