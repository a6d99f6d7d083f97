"""The worst cases of a comparison: people whom one model gets better than the other, people who are missed, and false people."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal, TypeAlias

from posewire.registry.keypoint_sets import KeypointSet
from posewire.tools.calibration import Limits, read
from posewire.tools.evaluate.annotations import AnnotatedImage, Person, Row
from posewire.tools.evaluate.drawing import Part

_SIDE = 320  # pixels of the longer side of a drawn part

# a, b: found by both, and better by this one. missed: by one of them, or by both. false_a, false_b: nobody is there.
Kind: TypeAlias = Literal["a", "b", "missed", "false_a", "false_b"]
KINDS: Final[tuple[Kind, ...]] = ("a", "b", "missed", "false_a", "false_b")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One person of an image, annotated or not, and the predictions of both models for them."""

    image: AnnotatedImage
    person: Person | None  # None: a false person
    rows: tuple[Row | None, Row | None]  # of a and of b
    oks: tuple[float, float] | None  # of a and of b; None: a false person


@dataclass(frozen=True, slots=True, eq=False)
class DrawnCase:
    """A case for a page."""

    name: str  # of the image
    panels: tuple[tuple[str, bytes], ...]  # caption and JPEG: annotated, a, b


class WorstCases:
    """Keeps the worst cases of each kind, and no others.

    Args:
        limit: of the cases of one kind.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heaps: dict[Kind, list[tuple[tuple[float, ...], int, Case]]] = {kind: [] for kind in KINDS}
        self._serial = count(0, -1)  # of equal cases the first wins, and cases are never compared

    def add_person(self, case: Case) -> None:
        """Add an annotated person."""
        assert case.oks is not None
        assert case.person is not None
        a, b = case.oks
        if None in case.rows:
            self._add("missed", (max(a, b), case.person.area), case)
        elif a != b:
            self._add("a" if a > b else "b", (abs(a - b),), case)

    def add_false(self, case: Case, of: int) -> None:
        """Add a false person of a (`of` is 0) or of b (1)."""
        row = case.rows[of]
        assert row is not None
        self._add("false_b" if of else "false_a", (row["score"],), case)

    def of(self, kind: Kind) -> list[Case]:
        """Return the cases of a kind, the worst first."""
        return [case for _, _, case in sorted(self._heaps[kind], reverse=True)]

    def _add(self, kind: Kind, weight: tuple[float, ...], case: Case) -> None:
        heap, entry = self._heaps[kind], (weight, next(self._serial), case)
        if len(heap) < self._limit:
            heapq.heappush(heap, entry)
        elif heap:
            heapq.heappushpop(heap, entry)


def draw_cases(
    worst: WorstCases, keypoints: KeypointSet, limits: Limits, advance: Callable[[], None]
) -> Iterator[tuple[Kind, list[DrawnCase]]]:
    """Yield every kind that has cases, with its drawn cases, the worst first.

    Raises:
        PosewireError: an image cannot be read.
    """
    for kind in KINDS:
        drawn = []
        for case in worst.of(kind):
            drawn.append(_drawn(case, keypoints, limits))
            advance()
        if drawn:
            yield kind, drawn


def _drawn(case: Case, keypoints: KeypointSet, limits: Limits) -> DrawnCase:
    boxes = [row["bbox"] for row in case.rows if row] + ([case.person.box_xywh.tolist()] if case.person else [])
    part = Part.around(read(case.image.path, limits).pixels, boxes, _SIDE)
    people = [case.person] if case.person else case.image.people
    annotated = part.draw([part.annotated(person) for person in people], keypoints)
    panels = [("annotated", annotated)]
    for side, row in enumerate(case.rows):
        caption = "not found" if row is None else f"score {row['score']:.2f}"
        if row is not None and case.oks:
            caption = f"OKS {case.oks[side]:.2f}, {caption}"
        panels.append((f"{'AB'[side]}: {caption}", part.draw([part.found(row, case.person)] if row else [], keypoints)))
    return DrawnCase(case.image.path.name, tuple(panels))
