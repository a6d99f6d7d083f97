"""COCO's matching of the predictions for one image with its annotated people, by pycocotools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from posewire.tools.evaluate.annotations import Row, quiet

AREAS: Final = ("all", "medium", "large")  # pycocotools' ranges of the person's area, in its order


@dataclass(frozen=True, slots=True, eq=False)
class ImageMatches:
    """The part of an image in COCO's average precision: D predictions, T thresholds of OKS, A ranges of the person's area."""

    rows: npt.NDArray[np.intp]  # (D,) index of the row, the best score first; at most 20, as COCO counts
    scores: npt.NDArray[np.float64]  # (D,) 0..1
    true: npt.NDArray[np.bool_]  # (A, T, D): matches a person of the range
    ignored: npt.NDArray[np.bool_]  # (A, T, D): neither true nor false, as on a crowd
    people: npt.NDArray[np.intp]  # (A,): number of the people who count

    @property
    def false_rows(self) -> list[int]:
        """Indices of the rows that match nobody at the lowest threshold, the best score first."""
        wrong = ~(self.true[0, 0] | self.ignored[0, 0])
        return [int(index) for index in self.rows[wrong]]


def match(truth: Sequence[Row], rows: Sequence[Row], sigmas: Sequence[float]) -> ImageMatches:
    """Match the predictions for one image with its people, at all of COCO's thresholds of OKS and ranges of area.

    Args:
        truth: COCO's annotations of the image, with its crowds and the people without keypoints.
        rows: predictions for this image, with `keypoints` and `score`.
        sigmas: of the K keypoints, COCO's.
    """
    from pycocotools.cocoeval import COCOeval

    # Numbers of its own: pycocotools takes an annotation of id 0 for unmatched, and files may repeat ids.
    people = [row | {"id": number, "image_id": 1, "category_id": 1} for number, row in enumerate(truth, 1)]
    found = [{"image_id": 1, "category_id": 1, "keypoints": row["keypoints"], "score": row["score"]} for row in rows]
    with quiet():
        annotated = _coco(people)
        run = COCOeval(annotated, annotated.loadRes(found) if found else _coco([]), "keypoints")
        run.params.kpt_oks_sigmas = np.array(sigmas)
        run.evaluate()
    thresholds = len(run.params.iouThrs)
    if run.evalImgs[0] is None:  # neither people nor predictions
        nothing = np.zeros((len(AREAS), thresholds, 0), np.bool_)
        return ImageMatches(np.empty(0, np.intp), np.empty(0), nothing, nothing, np.zeros(len(AREAS), np.intp))
    first = run.evalImgs[0]
    ignored = np.stack([area["dtIgnore"] for area in run.evalImgs]).astype(bool)
    matched = np.stack([area["dtMatches"] for area in run.evalImgs]) > 0
    return ImageMatches(
        np.array(first["dtIds"], np.intp) - 1,  # pycocotools numbers the rows from 1
        np.array(first["dtScores"], np.float64),
        matched & ~ignored,
        ignored,
        np.array([np.count_nonzero(np.asarray(area["gtIgnore"]) == 0) for area in run.evalImgs], np.intp),
    )


def _coco(annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotations}
    coco.createIndex()
    return coco
