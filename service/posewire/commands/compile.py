"""`posewire models compile`: a checkpoint into the ONNX file that is served."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from posewire.commands.files import write_atomically
from posewire.errors import PosewireError
from posewire.models.litehrnet.checkpoint import read_checkpoint, require
from posewire.models.litehrnet.spec import get_variant, parameters


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the command line asked for."""

    variant: str
    height: int  # pixels
    width: int  # pixels
    keypoints: int
    sigmoid: bool


def compile_checkpoint(checkpoint: Path, out: Path, options: CompileOptions) -> int:
    """Write the graph and print what its manifest entry needs.

    Raises:
        PosewireError: the checkpoint is not of the variant, the file cannot be written, or onnx is not installed.
    """
    try:
        from posewire.models.litehrnet.graph import compile_graph
    except ImportError:
        raise PosewireError("compiling needs onnx: pip install 'posewire[compile]'") from None
    variant = get_variant(options.variant, options.keypoints)
    state = require(read_checkpoint(checkpoint), parameters(variant), source=checkpoint)
    model = compile_graph(variant, state, options.height, options.width, sigmoid=options.sigmoid)
    content = model.SerializeToString()
    write_atomically(out, content)
    print(f'file = "{out.name}"')
    print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"')
    print(f"bytes = {len(content)}")
    return 0
