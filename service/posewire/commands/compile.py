"""`posewire models compile`: a checkpoint into a file that is served."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from posewire.errors import ModelError
from posewire.files import write_atomically
from posewire.models.compiling import compile_checkpoint as compiled
from posewire.models.compiling import kernel_weights
from posewire.models.litehrnet.spec import get_variant


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the command line asked for."""

    variant: str
    height: int  # pixels
    width: int  # pixels
    keypoints: int
    sigmoid: bool


def compile_checkpoint(checkpoint: Path, out: Path, options: CompileOptions) -> int:
    """Write the graph, or the kernels' weights where `out` ends in .safetensors, and print what its manifest entry needs.

    Raises:
        PosewireError: the checkpoint is not of the variant, the file cannot be written, or onnx is not installed.
    """
    variant = get_variant(options.variant, options.keypoints)
    if out.suffix == ".safetensors":
        weights = kernel_weights(checkpoint, variant, sigmoid=options.sigmoid)
        if weights is None:
            raise ModelError(f"{variant.name} cannot run on Posewire's kernels; compile it to an .onnx file")
        content = weights
    else:
        content = compiled(checkpoint, variant, options.height, options.width, sigmoid=options.sigmoid)
    write_atomically(out, content)
    print(f'file = "{out.name}"')
    print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"')
    print(f"bytes = {len(content)}")
    return 0
