"""What the commands of both trainings have in common."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from model_store.training import checkpoints
from model_store.training.locks import exclusive
from model_store.training.operators import use_native
from model_store.training.recipe import Recipe
from model_store.training.trainer import Batch, Trainer, Training
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


def conduct(
    recipe: Recipe,
    make: Callable[[Path], Training[Batch]],
    work: Path,
    data: Path | None,
    start: Path | None,
    minutes: float | None,
    threads: int,
    nice: int,
) -> None:
    """Train until the recipe or the time is over, and print how it went.

    Args:
        recipe: of the training.
        make: the training, over a folder of data.
        work: folder of checkpoints and curves.
        data: None: beside them.
        start: checkpoint to begin from.
        minutes: stop after this time.
        threads: of the network.
        nice: how far to step back for other programs.

    Raises:
        PosewireError: as `working_in`, or the data or the checkpoint cannot be read.
    """
    with working_in(work, threads, nice):
        training = make(data or work / "data")
        if start is not None:
            checkpoints.load_weights(start, training.network)
        trainer = Trainer(training, recipe, work)
        trainer.run(minutes)
    print(trainer.tell())
