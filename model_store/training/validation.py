"""How good a network is on the held-out data while it trains, by COCO's own code. Releases are judged by `posewire evaluate`."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from model_store.training.data.records import KEYPOINTS
from posewire.types import FloatArray

# A person covers about this share of its box: COCO measures distances by the area of the person itself.
_COVERED = 0.53


def keypoint_ap(
    truth_xy: FloatArray, weights: FloatArray, boxes_xywh: FloatArray, found_xy: FloatArray, scores: FloatArray
) -> dict[str, float]:
    """OKS average precision of one answer a person, all (n, …): keypoints (17, 2), weights (17,), boxes (4,), scores (17,)."""
    people, answers = [], []
    for n, (truth, weight, box, found, score) in enumerate(zip(truth_xy, weights, boxes_xywh, found_xy, scores, strict=True), 1):
        seen = (weight > 0).astype(np.float32)
        keypoints = np.concatenate([truth, 2 * seen[:, None]], 1).ravel().tolist()
        area = float(box[2] * box[3] * _COVERED)
        people.append(_row(n, n, box) | {"area": area, "num_keypoints": int(seen.sum()), "keypoints": keypoints})
        flat = np.concatenate([found, score[:, None]], 1).ravel().tolist()
        answers.append({"image_id": n, "category_id": 1, "keypoints": flat, "score": float(score.mean())})
    return _average_precision(len(people), people, answers, "keypoints")


def box_ap(truth_xywh: Sequence[FloatArray], found_xywh: Sequence[FloatArray], scores: Sequence[FloatArray]) -> dict[str, float]:
    """Average precision of boxes (people, 4) and scores (people,) of each image."""
    people: list[dict[str, Any]] = []
    answers = []
    for n, (truth, found, score) in enumerate(zip(truth_xywh, found_xywh, scores, strict=True), 1):
        people += [_row(len(people) + k, n, box) | {"area": float(box[2] * box[3])} for k, box in enumerate(truth, 1)]
        answers += [{"image_id": n, "category_id": 1, "bbox": b.tolist(), "score": float(s)} for b, s in zip(found, score, strict=True)]
    return _average_precision(len(truth_xywh), people, answers, "bbox")


def _row(number: int, image: int, box: FloatArray) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": box.tolist()}


def _average_precision(images: int, people: list[dict[str, Any]], answers: list[dict[str, Any]], kind: str) -> dict[str, float]:
    if not people or not answers:
        return {"ap": 0.0, "ap50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells its progress there
        truth = COCO()
        names = [str(n) for n in range(KEYPOINTS)]
        category = {"id": 1, "name": "person", "keypoints": names, "skeleton": []}
        truth.dataset = {"images": [{"id": n + 1} for n in range(images)], "annotations": people, "categories": [category], "info": {}}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(answers), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"ap": float(run.stats[0]), "ap50": float(run.stats[1])}
