"""`python -m model_store.training.data`: get the sets, let a teacher label them, cut them for training."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model_store.training.command_line import run
from model_store.training.data import crops, cutting, known, labelling, scenes
from model_store.training.data.movenet import MoveNet
from model_store.training.data.sets import LspSet, YoloSet, load_sets, people_of, scenes_of
from posewire.errors import PosewireError

app = typer.Typer(
    help="The data that the networks are trained on.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)

SetsArgument = Annotated[Path, typer.Argument(help="TOML file of sets, as docs/training.md tells.")]


class Task(StrEnum):
    """What is trained."""

    POSE = "pose"
    DETECTOR = "detector"


@app.command("list")
def list_known() -> None:
    """List the known sets with their licences."""
    for item in known.KNOWN:
        terms = f"{item.licence}{'; RESEARCH ONLY' if item.research else ''}"
        print(f"{item.name}\n  {item.holds}\n  licence: {terms}\n  from: {item.repository or item.advice}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Of a known set.")],
    into: Annotated[Path, typer.Option(help="Folder to make the set's folder in.")] = Path(),
) -> None:
    """Fetch a known set, or tell where it is."""
    print(known.fetch(name, into))


@app.command()
def label(
    file: SetsArgument,
    name: Annotated[str, typer.Argument(help="Of the set in the file: YOLO boxes are given keypoints, LSP's are checked and completed.")],
    movenet: Annotated[Path, typer.Option(help="Folder of MoveNet Thunder in OpenVINO's format.")],
    out: Annotated[Path, typer.Option(help="File of labelled people to write.")],
) -> None:
    """Let the teacher label a set. Stopped, it goes on where it was."""
    sets, root = load_sets(file), file.absolute().parent
    chosen = next((item for item in (*sets.train, *sets.held_out) if item.name == name), None)
    teacher = MoveNet(movenet)
    with bars() as report:
        if isinstance(chosen, YoloSet):
            images = [scene for scene in scenes_of(chosen, root) if len(scene.boxes_xywh)]
            count = labelling.label_scenes(teacher, images, out, root, advance=report(len(images), name))
        elif isinstance(chosen, LspSet):
            people = people_of(chosen, root)
            count = labelling.check_people(teacher, people, out, root, advance=report(len(people), name))
        else:
            raise PosewireError(f"{file} has no set of YOLO boxes or LSP that is called {name!r}")
    print(f"{out}: {count:,} people")


@app.command()
def cut(
    file: SetsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make; give it to the training as --data.")],
    task: Annotated[Task, typer.Option(help="Crops of people, or whole images.")] = Task.POSE,
    side: Annotated[
        int | None, typer.Option(min=32, help=f"Pixels; {crops.DEFAULT_SIDE} for pose, {scenes.DEFAULT_SIDE} for the detector.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = os.cpu_count() or 1,
    no_research: Annotated[bool, typer.Option("--no-research", help="Leave out sets that are for research only.")] = False,
) -> None:
    """Cut the sets for training, and refuse held-out images among them. Stopped, it goes on where it was."""
    sets, root = load_sets(file, no_research=no_research), file.absolute().parent
    with bars() as report:
        if task is Task.POSE:
            counts = cutting.cut_people(sets, root, out, side=side or crops.DEFAULT_SIDE, workers=workers, report=report)
        else:
            counts = cutting.cut_scenes(sets, root, out, side=side or scenes.DEFAULT_SIDE, workers=workers, report=report)
    print(f"{out}: {counts[0]:,} {'people' if task is Task.POSE else 'images'} to train on, {counts[1]:,} held out, no leaks")


@contextmanager
def bars() -> Iterator[cutting.Report]:
    """Progress bars on standard error, where a person watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def report(total: int, what: str) -> Callable[[], None]:
            task = bar.add_task(what, total=total)
            return lambda: bar.advance(task)

        yield report


if __name__ == "__main__":
    run(app)
