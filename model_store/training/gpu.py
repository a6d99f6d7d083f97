"""`python -m model_store.training.gpu`: one leg of a distillation on a GPU that is lent for minutes.

The recipes are for one core of a CPU: small batches, one thread that makes the images. Here the batch is larger, processes make the
images, the convolutions compute in bfloat16, and the leg ends cooled when the minutes are over. WORK/weights.pt is what a CPU, or the
next leg, begins from (--start).
"""

import io
import os
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import torch
import typer

from model_store.training import detector, pose, toml
from model_store.training.command_line import run
from model_store.training.commands import (
    Bf16Option,
    DataOption,
    NoResearchOption,
    Place,
    RecipeOption,
    StartOption,
    TeacherOption,
    WorkOption,
    teacher_file,
)
from model_store.training.recipe import DetectorRecipe, PoseRecipe, Recipe
from model_store.training.trainer import Trainer
from posewire.files import write_atomically

R = TypeVar("R", bound=Recipe)

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


class Task(StrEnum):
    """What is trained."""

    POSE = "pose"
    DETECTOR = "detector"


def for_gpu(recipe: R, minutes: float, batch: int, rate: float | None) -> R:
    """The recipe as a leg of so many minutes, in batches that suit a GPU, validated when it ends.

    Args:
        recipe: for a CPU.
        minutes: of training.
        batch: samples a step.
        rate: None: the recipe's; Adam's steps are of one size, however many samples they are made from.
    """
    optimiser = recipe.optimiser if rate is None else recipe.optimiser.model_copy(update={"rate": rate, "floor": rate / 100})
    changes = {"batch": batch, "minutes": minutes, "optimiser": optimiser, "log_every": max(recipe.log_every, 1_000 * batch)}
    return recipe.model_copy(update=changes)


@app.command()
def main(
    task: Annotated[Task, typer.Argument(help="What the recipe is for.")],
    recipe: RecipeOption,
    work: WorkOption,
    data: DataOption = None,
    start: StartOption = None,
    teacher: TeacherOption = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of training; the start and the validations take about one more.")] = 8.5,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 128,
    rate: Annotated[float | None, typer.Option(help="In the place of the recipe's.")] = None,
    no_research: NoResearchOption = False,
    device: Annotated[str, typer.Option(help="cuda, or cpu to try it.")] = "cuda",
    bf16: Bf16Option = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make the images.")] = max(1, (os.cpu_count() or 2) - 2),
) -> None:
    """Train for some minutes, and leave WORK/weights.pt. Stopped, the same command goes on where it was."""
    place = Place(work, data, start, device=device, bf16=bf16, workers=workers)
    trained: Trainer[Any, Any]
    if task is Task.POSE:
        person = for_gpu(toml.load(recipe, PoseRecipe), minutes, batch, rate)
        trained = pose.train(person, place, teacher_file(person.distillation, teacher, recipe.parent), no_research=no_research)
    else:
        box = for_gpu(toml.load(recipe, DetectorRecipe), minutes, batch, rate)
        trained = detector.train(box, place, teacher_file(box.distillation, teacher, recipe.parent), no_research=no_research)
    weights = io.BytesIO()
    states = {"ema": trained.average.state_dict(), "m": trained.network.state_dict()}
    torch.save({name: {key: value.cpu() for key, value in state.items()} for name, state in states.items()}, weights)
    write_atomically(work / "weights.pt", weights.getvalue())
    print(work / "weights.pt")


if __name__ == "__main__":
    run(app)
