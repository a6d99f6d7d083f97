"""Made sets of many people, with predictions for them: no images are needed to score them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.evaluate.annotations import AnnotatedImage, Annotations, Row
from posewire.tools.evaluate.compare.average_precision import AveragePrecision
from posewire.tools.evaluate.compare.matches import ImageMatches, match
from posewire.tools.evaluate.compare.people import KeypointSums, similarities
from posewire.tools.evaluate.joints import find_people

# Not COCO's: another number, and other sigmas.
FIVE = KeypointSet(
    names=("head", "left_hand", "right_hand", "left_foot", "right_foot"),
    flip_pairs=((1, 2), (3, 4)),
    oks_sigmas=(0.03, 0.05, 0.05, 0.08, 0.08),
    skeleton=((0, 1), (0, 2), (0, 3), (0, 4)),
)


@dataclass(frozen=True, slots=True)
class Model:
    """How a made model errs."""

    error: float  # of its keypoints, in units of the square root of the person's area
    missed: float = 0.1  # share of the people
    false: float = 0.5  # false people an image


def person(rng: np.random.Generator, number: int, image: int) -> dict[str, Any]:
    """Somebody of any size; some are crowds, some have no keypoints, and some keypoints are not annotated."""
    side = float(rng.choice([20, 50, 200]) * rng.uniform(0.8, 1.2))
    x, y = rng.uniform(0, 800, 2)
    visibility = rng.choice([0, 1, 2], len(FIVE.names), p=[0.2, 0.2, 0.6])
    if rng.uniform() < 0.1:
        visibility[:] = 0
    xy = rng.uniform([x, y], [x + side, y + side], (len(FIVE.names), 2))
    points = [float(value) for (px, py), v in zip(xy, visibility, strict=True) for value in (px * (v > 0), py * (v > 0), v)]
    row = {"id": number, "image_id": image, "category_id": 3, "iscrowd": int(rng.uniform() < 0.05), "bbox": [x, y, side, side]}
    return row | {"area": side * side * 0.6, "keypoints": points, "num_keypoints": int((visibility > 0).sum())}


def predict(
    rng: np.random.Generator, model: Model, people: Sequence[dict[str, Any]], image: int, keypoints: int = len(FIVE.names)
) -> list[Row]:
    """What a model finds on an image. Surer predictions are better ones, as those of a real model."""
    rows = []
    for one in people:
        if rng.uniform() < model.missed:
            continue
        points = np.array(one["keypoints"], np.float64).reshape(-1, 3)
        unsure = rng.uniform(0.2, 1.8)
        points[:, :2] += rng.normal(0, model.error * unsure * one["area"] ** 0.5, (len(points), 2))
        rows.append(_row(image, points, one["bbox"], float(np.clip(1 - unsure / 2 + rng.normal(0, 0.1), 0.01, 1))))
    for _ in range(rng.poisson(model.false)):
        x, y, side = rng.uniform(0, 800), rng.uniform(0, 800), rng.uniform(20, 200)
        points = rng.uniform([x, y, 0], [x + side, y + side, 1], (keypoints, 3))
        rows.append(_row(image, points, [x, y, side, side], float(rng.uniform(0, 0.6))))
    return rows


def _row(image: int, points: npt.NDArray[np.float64], box: list[float], score: float) -> Row:
    points = np.column_stack([points[:, :2], np.full(len(points), score)])
    return {"image_id": image, "category_id": 1, "keypoints": points.ravel().tolist(), "bbox": box, "score": score, "box_score": score}


def write_set(folder: Path, people: Sequence[Sequence[dict[str, Any]]]) -> Annotations:
    """A set of these people, image by image; the images are empty files."""
    folder.mkdir()
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(1, len(people) + 1)]
    for image in images:
        (folder / str(image["file_name"])).touch()
    rows = [one | {"image_id": number} for number, ones in enumerate(people, 1) for one in ones]
    rows = [row | {"id": number} for number, row in enumerate(rows, 1)]
    category = {"id": 3, "name": "puppet", "keypoints": list(FIVE.names)}
    (folder / "set.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": [category]}))
    return Annotations(folder / "set.json", folder, FIVE)


def crowd(rng: np.random.Generator, images: int) -> list[list[dict[str, Any]]]:
    """People of some images; on a few there is nobody."""
    return [[person(rng, 1, image) for _ in range(rng.poisson(2.5))] for image in range(1, images + 1)]


class Judged:
    """A model's predictions, judged image by image."""

    def __init__(self, data: Annotations, rows: Sequence[Sequence[Row]]) -> None:
        self._keypoints = data.keypoints
        self._images = [_judge(data, image, found) for image, found in zip(data.images, rows, strict=True)]

    def figures(self, images: Sequence[int] | None = None) -> tuple[AveragePrecision, KeypointSums]:
        """Of some of the images, by their places; None: of all."""
        chosen = self._images if images is None else [self._images[i] for i in images]
        sums = KeypointSums(self._keypoints)
        for _, similar, found in chosen:
            sums.add(similar, found)
        return AveragePrecision([matches for matches, _, _ in chosen]), sums


def _judge(data: Annotations, image: AnnotatedImage, found: Sequence[Row]) -> tuple[ImageMatches, list[npt.NDArray[np.float64]], int]:
    sigmas = np.array(data.keypoints.oks_sigmas)
    of_people = [one.row for one in find_people([image], found)]
    similar = [similarities(one, row, sigmas) for one, row in zip(image.people, of_people, strict=True)]
    return match(data.truth(image), found, data.keypoints.oks_sigmas), similar, sum(row is not None for row in of_people)


def judged(data: Annotations, rows: Sequence[Sequence[Row]]) -> tuple[AveragePrecision, KeypointSums]:
    """A model's figures from its predictions, image by image."""
    return Judged(data, rows).figures()
