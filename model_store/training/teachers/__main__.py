"""`python -m model_store.training.teachers`: a published teacher as a checkpoint, for machines without what reads its file."""

import io
from pathlib import Path
from typing import Annotated

import torch
import typer

from model_store.training.command_line import run
from model_store.training.teachers import rtmdet, tinypose
from posewire.errors import PosewireError
from posewire.files import write_atomically

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="PP-TinyPose's .xml, with its .bin beside it, or RTMDet-nano's .onnx.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write; name it as --teacher of a training.")],
) -> None:
    """Rebuild a teacher as a torch module, and write its weights."""
    readers = {".xml": tinypose.rebuild, ".onnx": rtmdet.rebuild}
    if file.suffix not in readers:
        raise PosewireError(f"{file} is neither an OpenVINO IR (.xml) nor ONNX (.onnx)")
    data = io.BytesIO()
    torch.save({"ema": readers[file.suffix](file).state_dict()}, data)
    write_atomically(out, data.getvalue())


if __name__ == "__main__":
    run(app)
