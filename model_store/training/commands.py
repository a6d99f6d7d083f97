"""What the commands of both trainings have in common."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import cv2
import torch
import typer

from model_store.training import checkpoints
from model_store.training.locks import exclusive
from model_store.training.operators import use_native
from model_store.training.recipe import Distillation, Recipe
from model_store.training.trainer import Drawn, Lesson, Machine, Trainer, Training
from posewire.errors import PosewireError
from posewire.files import make_folder

R = TypeVar("R", bound=Recipe)

RecipeOption = Annotated[Path, typer.Option(help="TOML file; model_store/training/recipes has some.")]
WorkOption = Annotated[Path, typer.Option(help="Folder of checkpoints and curves; a training that is in it goes on.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Folder that `python -m model_store.training.data cut` made; WORK/data if not named.")
]
StartOption = Annotated[
    Path | None, typer.Option(help="Checkpoint to begin from, not random weights; no matter once WORK has checkpoints.")
]
TeacherOption = Annotated[Path | None, typer.Option(help="The teacher's file, for a recipe with a distillation.")]
LegOption = Annotated[float | None, typer.Option(min=0.01, help="Minutes of training in all, in the place of the recipe's length.")]
MinutesOption = Annotated[float | None, typer.Option(min=0, help="Stop after this time; the same command goes on later.")]
NoResearchOption = Annotated[bool, typer.Option("--no-research", help="Leave out sets that are for research only.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
Bf16Option = Annotated[bool | None, typer.Option(help="Compute in bfloat16 by autocast; without the option, on a GPU only.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes that make the images; 0: a thread does.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Cores for the network; making the images takes a part of one more.")]
NiceOption = Annotated[int, typer.Option(min=0, max=19, help="How far to step back for other programs; 0: not at all.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training works, and on what machine."""

    work: Path  # folder of checkpoints and curves
    data: Path | None = None  # None: in the work folder
    start: Path | None = None  # checkpoint to begin from
    minutes: float | None = None  # stop after this time
    device: str = "cpu"
    bf16: bool | None = None  # None: on a GPU only
    workers: int = 0
    threads: int = 1
    nice: int = 0

    @property
    def folder(self) -> Path:
        """Of the data."""
        return self.data or self.work / "data"

    def machine(self) -> Machine:
        """What the trainer runs on.

        Raises:
            PosewireError: there is no such device.
        """
        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise PosewireError(f"the device {self.device} cannot be used: {str(error).splitlines()[0]}") from None
        return Machine(device, device.type != "cpu" if self.bf16 is None else self.bf16, self.workers)


def with_leg(recipe: R, leg: float | None) -> R:
    """The recipe as a training of so many minutes; None: as it is."""
    return recipe if leg is None else recipe.model_copy(update={"minutes": leg})


def teacher_file(distillation: Distillation | None, named: Path | None, folder: Path) -> Path | None:
    """The file of the teacher; None: the recipe has none.

    Args:
        distillation: of the recipe.
        named: on the command line.
        folder: where the recipe's paths start.

    Raises:
        PosewireError: no file is named for a recipe with a teacher, or one for a recipe without.
    """
    if distillation is None:
        if named is not None:
            raise PosewireError("the recipe has no [distillation]: it learns from annotations, and takes no teacher")
        return None
    if named is None and distillation.teacher is None:
        raise PosewireError("the recipe learns from a teacher: name its file with --teacher")
    return named or folder / str(distillation.teacher)


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
    recipe: Recipe, make: Callable[[Path], Training[Drawn, Lesson]], place: Place, name_of: Callable[[str], str] = str
) -> Trainer[Drawn, Lesson]:
    """Train until the recipe or the time is over, and print how it went.

    Args:
        recipe: of the training.
        make: the training, over a folder of data.
        place: where.
        name_of: the network's names of the names in the checkpoint to begin from.

    Raises:
        PosewireError: as `working_in`, or the data or the checkpoint cannot be read.
    """
    machine = place.machine()
    with working_in(place.work, place.threads, place.nice):
        training = make(place.folder)
        if place.start is not None:
            checkpoints.load_weights(place.start, training.network, name_of)
        trainer = Trainer(training, recipe, place.work, machine, started=place.start is not None)
        trainer.run(place.minutes)
    print(trainer.tell())
    return trainer
