"""The figures of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from posewire.tools.evaluate.compare.bootstrap import CONFIDENCE, RESAMPLES, SEED, Difference
from posewire.tools.evaluate.compare.people import FOUND, MEAN_OKS
from posewire.tools.evaluate.predicting import Boxes


@dataclass(frozen=True, slots=True)
class Spread:
    """A value that was measured once an image."""

    median: float
    q1: float  # first quartile
    q3: float  # third quartile
    p95: float  # of 100 images, 5 are above

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of values, at least one."""
        q1, median, q3, p95 = np.percentile(values, [25, 50, 75, 95]).tolist()
        return cls(median, q1, q3, p95)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of the pose pipeline for one image, without decoding."""

    images: int  # on which both were timed
    a: Spread
    b: Spread
    ratio: Spread  # of b to a, on the same image

    @classmethod
    def of(cls, a: Sequence[float], b: Sequence[float]) -> Self:
        """Return the times of both sides; the values are those of the same images."""
        return cls(len(a), Spread.of(a), Spread.of(b), Spread.of(np.divide(b, a).tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All figures of both sides."""

    names: tuple[str, str]
    models: tuple[str, str]  # which models these are, and what they run on
    boxes_from: Boxes
    flip_test: bool
    images: int
    people: int
    ap: Mapping[str, Difference]  # by pycocotools' names
    of_people: Mapping[str, Difference]  # by `KeypointSums.names`
    counts: Mapping[str, int]  # annotated keypoints, by `ALL` and their names
    milliseconds: Times

    def of_keypoint(self, kind: str, name: str) -> Difference:
        """Return the similarity (kind `oks`) or the share that is right (`right`) of a keypoint."""
        return self.of_people[f"{kind} {name}"]

    def as_json(self) -> dict[str, Any]:
        """Return all figures; a figure that is not defined is None."""
        sides = [{"name": name, "models": models} for name, models in zip(self.names, self.models, strict=True)]
        bootstrap = {"over": "images", "resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": SEED}
        keypoints = {
            name: {"count": count} | {kind: asdict(self.of_keypoint(kind, name)) for kind in ("oks", "right")}
            for name, count in self.counts.items()
        }
        return {
            "a": sides[0],
            "b": sides[1],
            "boxes_from": self.boxes_from,
            "flip_test": self.flip_test,
            "images": self.images,
            "people": self.people,
            "bootstrap": bootstrap,
            "ap": {name: asdict(figure) for name, figure in self.ap.items()},
            FOUND: asdict(self.of_people[FOUND]),
            MEAN_OKS: asdict(self.of_people[MEAN_OKS]),
            "keypoints": keypoints,
            "milliseconds": asdict(self.milliseconds),
        }
