"""`posewire models compile`: a checkpoint into the ONNX file that is served."""

import hashlib
from pathlib import Path

from posewire.files import write_atomically
from posewire.models.compiling import compile_checkpoint as compiled
from posewire.models.litehrnet.options import GraphOptions
from posewire.models.litehrnet.spec import Variant


def compile_checkpoint(checkpoint: Path, out: Path, variant: Variant, height: int, width: int, options: GraphOptions) -> int:
    """Write the graph for pictures of `height` x `width` pixels and print what its manifest entry needs.

    Raises:
        PosewireError: the checkpoint is not of the variant, the file cannot be written, or onnx is not installed.
    """
    content = compiled(checkpoint, variant, height, width, options)
    write_atomically(out, content)
    print(f'file = "{out.name}"')
    print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"')
    print(f"bytes = {len(content)}")
    print(f'input.format = "{options.input}"')
    print(f'output.layout = "{options.output}"')
    return 0
