"""A file of sets to folders of crops or scenes, checked for leaks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from model_store.training.data import crops, scenes
from model_store.training.data.leaks import Fingerprints, refuse_leaks
from model_store.training.data.records import Person, Scene
from model_store.training.data.sets import Sets, people_of, scenes_of, training_people, training_scenes
from posewire.errors import PosewireError
from posewire.files import make_folder

TRAIN, HELD_OUT = "train", "held-out"


class Report(Protocol):
    """Makes a progress bar of so many images, and gives what to call after each."""

    def __call__(self, total: int, what: str) -> Callable[[], None]: ...  # noqa: D102


def cut_people(sets: Sets, root: Path, out: Path, *, side: int, workers: int, report: Report) -> tuple[int, int]:
    """Cut `out/train` and `out/held-out` for the pose network; goes on where it was stopped.

    Args:
        sets: what to cut.
        root: where the sets' paths start.
        out: the folder to make both in.
        side: of a crop, pixels; a multiple of 8.
        workers: threads.
        report: makes progress bars.

    Returns:
        How many people to train on, and how many are held out.

    Raises:
        PosewireError: a set cannot be read, or held-out images are in the training data; lists them.
    """
    held_out = [person for chosen in sets.held_out for person in people_of(chosen, root, held_out=True)]
    training = training_people(sets, root)
    _refuse_by_number(training, held_out)
    make_folder(out)
    for name, people in ((HELD_OUT, held_out), (TRAIN, training)):
        crops.cut(people, out / name, side=side, workers=workers, advance=report(len(crops.by_image(people)), name))
    refuse_leaks(crops.open_crops(out / TRAIN).fingerprints, crops.open_crops(out / HELD_OUT).fingerprints)
    return len(training), len(held_out)


def cut_scenes(sets: Sets, root: Path, out: Path, *, side: int, workers: int, report: Report) -> tuple[int, int]:
    """Make `out/train` and `out/held-out` for the detector: as `cut_people`, images instead of people."""
    held_out = [scene for chosen in sets.held_out for scene in scenes_of(chosen, root)]
    training = training_scenes(sets, root)
    _refuse_by_number(training, held_out)
    make_folder(out)
    for name, images in ((HELD_OUT, held_out), (TRAIN, training)):
        scenes.cut(images, out / name, side=side, workers=workers, advance=report(len(images), name))
    refuse_leaks(scenes.open_scenes(out / TRAIN).fingerprints, scenes.open_scenes(out / HELD_OUT).fingerprints)
    return len(training), len(held_out)


def _refuse_by_number(training: Sequence[Person] | Sequence[Scene], held_out: Sequence[Person] | Sequence[Scene]) -> None:
    """What can be told before an image is read.

    Raises:
        PosewireError: there is nobody to train on or to hold out, or images are in both; lists them.
    """
    for records, what in ((training, "train on"), (held_out, "hold out")):
        if not records:
            raise PosewireError(f"the sets have nobody to {what}")
    refuse_leaks(Fingerprints.of_numbers([r.id for r in training]), Fingerprints.of_numbers([r.id for r in held_out]))
