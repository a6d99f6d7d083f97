"""`posewire models compile`: compile a checkpoint to a file that can be served."""

import hashlib
from pathlib import Path

from posewire.errors import ModelError
from posewire.files import open_plain, write_atomically
from posewire.registry.networks.litehrnet.spec import Variant
from posewire.tools.compiler.compiling import compile_checkpoint as compiled
from posewire.tools.compiler.compiling import kernel_weights
from posewire.tools.compiler.litehrnet.options import GraphOptions


def compile_checkpoint(checkpoint: Path, out: Path, variant: Variant, height: int, width: int, options: GraphOptions) -> int:
    """Write the compiled file, and print the values for its manifest entry.

    Args:
        checkpoint: of the variant.
        out: FILE.onnx for a graph of images of `height` x `width` pixels, FILE.safetensors for the kernels' weights.
        variant: of the checkpoint.
        height: pixels.
        width: pixels.
        options: of the graph; the kernels' weights have only `sigmoid`.

    Raises:
        PosewireError: the checkpoint is not of the variant, the file cannot be written, or onnx is not installed.
    """
    open_plain(checkpoint).close()  # the reader would wait for a pipe
    if out.suffix == ".safetensors":
        if options != GraphOptions(sigmoid=options.sigmoid):
            raise ModelError("weights for Posewire's kernels take --sigmoid only; the other options are an ONNX graph's")
        weights = kernel_weights(checkpoint, variant, sigmoid=options.sigmoid)
        if weights is None:
            raise ModelError(f"{variant.name} cannot run on Posewire's kernels; compile it to an .onnx file")
        content = weights
    else:
        content = compiled(checkpoint, variant, height, width, options)
    write_atomically(out, content)
    print(f'file = "{out.name}"')
    print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"')
    print(f"bytes = {len(content)}")
    print(f'input.format = "{options.input}"')
    print(f'output.layout = "{options.output}"')
    return 0
