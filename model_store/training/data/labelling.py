"""A whole set labelled by a teacher; goes on where it was stopped."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model_store.training.data import arrays
from model_store.training.data.crops import by_image, name
from model_store.training.data.labels import save_people
from model_store.training.data.records import KEYPOINTS, Person, Scene, read_image
from model_store.training.data.teacher import Teacher, ask, check

# A person whose keypoints have less mean score than this is left out.
LEAST_SCORE = 0.2


def label_scenes(teacher: Teacher, scenes: Sequence[Scene], file: Path, root: Path, *, advance: Callable[[], None]) -> int:
    """Write the people of images with boxes to a file of labelled people.

    Args:
        teacher: asked by one thread.
        scenes: the images.
        file: to be written.
        root: the folder from which the file names the images.
        advance: called after every image.

    Returns:
        How many people; those whom the teacher does not know are left out.

    Raises:
        PosewireError: an image cannot be read, or the file cannot be written.
    """
    unknown = np.zeros((KEYPOINTS, 3), np.float32)
    people = [Person(s.image, box, unknown[:, :2], unknown[:, 2], s.source, s.id) for s in scenes for box in s.boxes_xywh]

    def work(asked: Sequence[Person]) -> dict[str, arrays.Array]:
        pixels = read_image(asked[0].image)
        opinions = [ask(teacher, pixels, person.box_xywh) for person in asked]
        rows = [np.concatenate([o.keypoints_xy, o.weights[:, None] * (o.score >= LEAST_SCORE)], 1) for o in opinions]
        return {"keypoints": np.array(rows, np.float32)}

    return _label(people, work, file, root, advance)


def check_people(teacher: Teacher, people: Sequence[Person], file: Path, root: Path, *, advance: Callable[[], None]) -> int:
    """Write annotated people, checked by a teacher, to a file of labelled people; see `label_scenes`."""

    def work(asked: Sequence[Person]) -> dict[str, arrays.Array]:
        checked = [check(teacher, person) for person in asked]
        rows = [np.concatenate([person.keypoints_xy, person.weights[:, None]], 1) for person in checked]
        return {"keypoints": np.array(rows, np.float32)}

    return _label(people, work, file, root, advance)


def _label(
    people: Sequence[Person],
    work: Callable[[Sequence[Person]], dict[str, arrays.Array]],
    file: Path,
    root: Path,
    advance: Callable[[], None],
) -> int:
    folder = file.with_name(f"{file.name}.labels")
    boxes = np.array([person.box_xywh for person in people], np.float32)
    plan = arrays.Plan(
        tasks=by_image(people),
        work=work,
        rows={"keypoints": arrays.Rows((KEYPOINTS, 3), "float32")},
        given={"boxes_xywh": boxes},
        notes={},
        source=" ".join(name(person.image) for person in people),
    )
    arrays.build(folder, plan, workers=1, advance=advance)
    found = np.array(arrays.read(folder).arrays["keypoints"])
    labelled = [replace(p, keypoints_xy=k[:, :2], weights=k[:, 2]) for p, k in zip(people, found, strict=True) if k[:, 2].any()]
    save_people(labelled, file, root)
    shutil.rmtree(folder)
    return len(labelled)
