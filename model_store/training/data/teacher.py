"""Keypoints from a teacher: another network that is better than no annotation.

A teacher is any callable; it is asked for more than one view of a person, because where its answers differ it is guessing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from model_store.training.data.records import Person, Scene, read_image, swap_sides
from posewire.types import FloatArray, UInt8Array

# (H, W, 3) uint8 RGB and a box (4,) float32 x y w h in its pixels, to (17, 2) float32 x y in its pixels and (17,) float32 scores 0..1.
Teacher: TypeAlias = Callable[[UInt8Array, FloatArray], tuple[FloatArray, FloatArray]]

# The face is on the midline or beside it: annotators who mix up a person's sides mix up the body's.
_BODY = np.arange(17) >= 5
# Weights, by the mean score and by how far apart the views are in units of the box's longer side. Measured for MoveNet Thunder on COCO val:
# a score over 0.4 with less than 0.03 is right (OKS over 0.5) nine times in ten, a score under 0.2 in fewer than half.
_WORTHLESS_SCORE, _FULL_SCORE = 0.12, 0.42
_AGREE, _DIFFER = 0.03, 0.06


@dataclass(frozen=True, slots=True)
class View:
    """One way to show a person to the teacher."""

    scale: float = 1.05  # of the box, about its centre
    mirrored: bool = False


VIEWS = (View(1.05), View(1.2, mirrored=True))


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What a teacher's views say together."""

    keypoints_xy: FloatArray  # (17, 2) float32, pixels of the image
    weights: FloatArray  # (17,) float32, 0..1, by score and agreement
    score: float  # 0..1, the mean over views and keypoints


def ask(teacher: Teacher, pixels: UInt8Array, box_xywh: FloatArray, views: Sequence[View] = VIEWS) -> Opinion:
    """A teacher's opinion of the person in a box (4,) of an image (H, W, 3) uint8 RGB."""
    answers = [_look(teacher, pixels, box_xywh, view) for view in views]
    points = np.stack([xy for xy, _ in answers])
    scores = np.stack([s for _, s in answers])
    trust = scores**2 + 1e-6
    middle = (points * trust[..., None]).sum(0) / trust.sum(0)[:, None]
    spread = np.linalg.norm(points - middle, axis=-1).max(0) / max(float(box_xywh[2:].max()), 1.0)
    agreement = np.select([spread < _AGREE, spread < _DIFFER], [1.0, 0.4], 0.1)
    mean = scores.mean(0)
    weights = np.clip((mean - _WORTHLESS_SCORE) / (_FULL_SCORE - _WORTHLESS_SCORE), 0, 1) * agreement
    return Opinion(middle.astype(np.float32), weights.astype(np.float32), float(mean.mean()))


def _look(teacher: Teacher, pixels: UInt8Array, box_xywh: FloatArray, view: View) -> tuple[FloatArray, FloatArray]:
    """One view's answer, in pixels and with the sides of the image as it is."""
    centre, size = box_xywh[:2] + box_xywh[2:] / 2, box_xywh[2:] * view.scale
    if not view.mirrored:
        return teacher(pixels, np.concatenate([centre - size / 2, size]))
    centre = np.array([pixels.shape[1] - centre[0], centre[1]], np.float32)
    xy, scores = teacher(np.ascontiguousarray(pixels[:, ::-1]), np.concatenate([centre - size / 2, size]))
    # Pixel x is column x, and the mirrored image has it at column width - 1 - x.
    unmirrored = np.stack([pixels.shape[1] - 1 - xy[:, 0], xy[:, 1]], -1)
    return swap_sides(unmirrored), swap_sides(scores[:, None])[:, 0]


def label(teacher: Teacher, scene: Scene, *, least_score: float = 0.2, views: Sequence[View] = VIEWS) -> list[Person]:
    """The people of an image whose boxes are known, with the teacher's keypoints; who scores less than `least_score` is left out."""
    pixels = read_image(scene.image)
    opinions = [(box, ask(teacher, pixels, box, views)) for box in scene.boxes_xywh]
    return [
        Person(scene.image, box, opinion.keypoints_xy, opinion.weights, scene.source, scene.id)
        for box, opinion in opinions
        if opinion.score >= least_score
    ]


def check(teacher: Teacher, person: Person, views: Sequence[View] = VIEWS) -> Person:
    """An annotated person after the teacher has seen it.

    Sides that the annotator mixed up are changed back, joints that a sure teacher places elsewhere lose most of their weight, and
    joints that were not annotated come from the teacher, if it agrees with the annotation elsewhere.
    """
    opinion = ask(teacher, read_image(person.image), person.box_xywh, views)
    repaired = repair_sides(person, opinion)
    annotated = repaired.weights > 0
    errors = _errors(repaired, opinion)
    weights = np.where(annotated & (errors > 0.1) & (opinion.weights > 0.7), 0.15, repaired.weights)
    xy = repaired.keypoints_xy
    judged = annotated & (opinion.weights > 0.3)
    if opinion.weights[annotated].sum() > 3 and judged.any() and np.median(errors[judged]) < 0.06:
        weights = np.where(annotated, weights, 0.9 * opinion.weights)
        xy = np.where(annotated[:, None], xy, opinion.keypoints_xy)
    return replace(repaired, keypoints_xy=xy.astype(np.float32), weights=weights.astype(np.float32))


def repair_sides(person: Person, opinion: Opinion) -> Person:
    """The person, with left and right of the body changed over if that brings it much nearer to a sure opinion."""
    swapped = replace(
        person,
        keypoints_xy=np.where(_BODY[:, None], swap_sides(person.keypoints_xy), person.keypoints_xy),
        weights=np.where(_BODY, swap_sides(person.weights[:, None])[:, 0], person.weights),
    )
    sure = opinion.weights[person.weights > 0].sum() > 4
    distance, other = (_distance(candidate, opinion) for candidate in (person, swapped))
    return swapped if sure and other < 0.06 and other < 0.5 * distance else person


def _errors(person: Person, opinion: Opinion) -> FloatArray:
    """(17,): between annotation and opinion, in units of the box's longer side."""
    away = np.linalg.norm(person.keypoints_xy - opinion.keypoints_xy, axis=-1)
    return np.asarray(away / max(float(person.box_xywh[2:].max()), 1.0), np.float32)


def _distance(person: Person, opinion: Opinion) -> float:
    """Mean error of the annotated joints, weighted by how sure the opinion is."""
    weights = opinion.weights * (person.weights > 0)
    return float((_errors(person, opinion) * weights).sum() / (weights.sum() + 1e-6))
