"""The images with the worst predictions, drawn with their annotations and their predictions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.calibration import Limits, read
from posewire.tools.evaluate.drawing import Part
from posewire.tools.evaluate.joints import Found

_SIDE = 420  # pixels of the longer side


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One image, drawn twice."""

    name: str
    oks: tuple[float, ...]  # of its people; 0: no prediction
    annotated: bytes  # JPEG
    found: bytes  # JPEG


def worst(everyone: Sequence[Found], keypoints: KeypointSet, count: int, limits: Limits) -> Iterator[Shown]:
    """Yield the `count` images of the lowest mean OKS, the worst first, cropped to their annotated people.

    Raises:
        PosewireError: an image cannot be read.
    """
    people_of: dict[int, list[Found]] = defaultdict(list)
    for found in everyone:
        people_of[found.image.image_id].append(found)
    for people in sorted(people_of.values(), key=lambda people: np.mean([found.oks for found in people]))[:count]:
        yield _shown(people, keypoints, limits)


def _shown(people: Sequence[Found], keypoints: KeypointSet, limits: Limits) -> Shown:
    path = people[0].image.path
    part = Part.around(read(path, limits).pixels, [f.person.box_xywh for f in people], _SIDE)
    true = [part.annotated(f.person) for f in people]
    predicted = [part.found(f.row) for f in people if f.row]
    return Shown(path.name, tuple(f.oks for f in people), *(part.draw(poses, keypoints) for poses in (true, predicted)))
