"""What the commands of both trainings have in common."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from model_store.training.locks import exclusive
from model_store.training.operators import use_native
from posewire.files import make_folder

RecipeOption = Annotated[Path, typer.Option(help="TOML file; model_store/training/recipes has some.")]
WorkOption = Annotated[Path, typer.Option(help="Folder of checkpoints and curves; a training that is in it goes on.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder that `python -m model_store.training.data cut` made; WORK/data if not named.")
]
StartOption = Annotated[
    Path | None, typer.Option(help="Checkpoint to begin from, not random weights; no matter once WORK has checkpoints.")
]
MinutesOption = Annotated[float | None, typer.Option(min=0, help="Stop after this time; the same command goes on later.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Cores for the network; making the pictures takes a part of one more.")]
NiceOption = Annotated[int, typer.Option(min=0, max=19, help="How far to step back for other programs; 0: not at all.")]


@contextmanager
def working_in(work: Path, threads: int, nice: int) -> Iterator[None]:
    """Make the work folder and hold it, step back for other programs, share out the cores, and take the C++ operators if they can be built.

    Raises:
        PosewireError: the folder cannot be made, or another process holds it.
    """
    make_folder(work)
    os.nice(max(0, nice - os.nice(0)))
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    try:
        use_native()
    except RuntimeError as error:
        print(f"training without the C++ operators, which is slower: {str(error).splitlines()[0]}", file=sys.stderr)
    with exclusive(work):
        yield
