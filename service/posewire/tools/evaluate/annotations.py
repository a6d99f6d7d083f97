"""Annotated people of COCO's JSON, and COCO's average precision (pycocotools) of predictions."""

import contextlib
import copy
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from posewire.errors import PosewireError
from posewire.files import open_plain
from posewire.registry.keypoint_sets import KEYPOINT_SETS, KeypointSet
from posewire.types import FloatArray

# A COCO results row with its image_id, and with the detector's score as `box_score` if it is known.
Row: TypeAlias = dict[str, Any]

_PERSON = 1  # COCO's category, where a file names none
_WHOLE_BODY = "coco-wholebody-133"
# COCO-WholeBody has the 17 keypoints of COCO in `keypoints`, and the others in these lists.
_BODY = 17
_WHOLE_BODY_PARTS = ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")

_KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
_BOX_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR", "ARs", "ARm", "ARl")


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One annotated person that has keypoints; pixels of the image."""

    annotation_id: int
    box_xywh: FloatArray  # (4,) float32
    area: float  # square pixels, of the annotated outline: the scale of the person in COCO
    xy: FloatArray  # (K, 2) float32
    visibility: FloatArray  # (K,) float32: 0 not annotated, 1 annotated but hidden, 2 seen
    oks_sigmas: FloatArray  # (K,) float32, of the keypoint set


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One image of the evaluation."""

    image_id: int
    path: Path
    people: tuple[Person, ...]  # those that have keypoints

    @property
    def boxes_xywh(self) -> FloatArray:
        """Boxes (N, 4) float32 of the people: x y w h."""
        return np.array([person.box_xywh for person in self.people], np.float32).reshape(-1, 4)


class Annotations:
    """COCO person keypoints with their images.

    Args:
        file: COCO's JSON.
        folder: of the images.
        keypoints: the keypoint set of the pose models, which the annotations must have.

    Raises:
        PosewireError: the file is not COCO keypoints, its keypoints are others than `keypoints`, nobody in it has keypoints, an image
            is missing, or pycocotools is not installed.
    """

    def __init__(self, file: Path, folder: Path, keypoints: KeypointSet = KEYPOINT_SETS["coco-17"]) -> None:
        try:
            from pycocotools.coco import COCO
        except ImportError:
            raise PosewireError("evaluation needs pycocotools: pip install 'posewire[evaluate]'") from None
        try:
            with open_plain(file) as handle:
                content = json.load(handle)
            if keypoints.name == _WHOLE_BODY:
                _join_whole_bodies(content)
            self.keypoints = keypoints
            self._category = _category(content, keypoints, file)
            self.images = _images(content, folder, self._category, keypoints)
        except OSError as error:
            raise PosewireError(f"{file} cannot be read: {error.strerror}") from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise PosewireError(f"{file} is not a file of COCO person keypoints: {type(error).__name__}: {error}") from None
        if not any(image.people for image in self.images):
            rows = content["annotations"]
            crowds = bool(rows) and all(row["iscrowd"] for row in rows)
            reason = "all of its annotations are crowds" if crowds else "of COCO's files take person_keypoints_*.json"
            raise PosewireError(f"nobody in {file} has keypoints; {reason}")
        missing = [image.path for image in self.images if not image.path.is_file()]
        if missing:
            raise PosewireError(f"{missing[0]} is named in {file} but is not there, nor are {len(missing) - 1} other images of it")
        self._coco = COCO()
        self._coco.dataset = content
        with quiet():
            self._coco.createIndex()

    @property
    def people(self) -> int:
        """The number of people with keypoints."""
        return sum(len(image.people) for image in self.images)

    def truth(self, image: AnnotatedImage) -> list[Row]:
        """Return COCO's annotations of the category on an image, with the crowds and those without keypoints."""
        return [row for row in self._coco.imgToAnns[image.image_id] if row["category_id"] == self._category]

    def keypoint_ap(self, rows: Sequence[Mapping[str, Any]], counts: Callable[[int], bool] | None = None) -> dict[str, float]:
        """Return OKS average precision and recall, 0..1, by COCO's protocol; -1 if there is nobody of a size.

        Args:
            rows: of all images.
            counts: returns True if the person of an annotation id counts; others are neither found nor missed. None: all count.
        """
        results = [{key: row[key] for key in ("image_id", "keypoints", "score")} | {"category_id": self._category} for row in rows]
        return self._score(self._coco if counts is None else self._without(counts), results, "keypoints", _KEYPOINT_NAMES)

    def box_ap(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return the average precision of the people's boxes, 0..1, by COCO's protocol, ordered by `box_score`."""
        return self._score(self._coco, self._as_boxes(rows), "bbox", _BOX_NAMES)

    def judged_boxes(self, rows: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the detector's scores (n,) float32 of all boxes, and True for each box that is right at an IoU of 0.5.

        Boxes on crowds are left out, as in COCO.
        """
        from pycocotools.cocoeval import COCOeval

        if not rows:
            return np.empty(0, np.float32), np.empty(0, np.bool_)
        with quiet():
            run = COCOeval(self._coco, self._coco.loadRes(self._as_boxes(rows)), "bbox")
            run.params.imgIds, run.params.catIds = [p.image_id for p in self.images], [self._category]
            run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], run.params.areaRngLbl[:1]
            run.evaluate()
        images = [image for image in run.evalImgs if image is not None]
        scores = np.concatenate([image["dtScores"] for image in images]).astype(np.float32)
        right = np.concatenate([image["dtMatches"][0] > 0 for image in images])
        counted = np.concatenate([~image["dtIgnore"][0].astype(bool) for image in images])
        return scores[counted], right[counted]

    def _as_boxes(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Convert rows to COCO's rows of boxes."""
        box = {"category_id": self._category}
        return [box | {"image_id": row["image_id"], "score": row["box_score"], "bbox": list(row["bbox"])} for row in rows]

    def _without(self, counts: Callable[[int], bool]) -> Any:
        """Return the annotations; people who do not count are marked like people without keypoints."""
        from pycocotools.coco import COCO

        content = copy.deepcopy(self._coco.dataset)
        for row in content["annotations"]:
            if not counts(row["id"]):
                row["num_keypoints"] = 0
        coco = COCO()
        coco.dataset = content
        with quiet():
            coco.createIndex()
        return coco

    def _score(self, coco: Any, rows: Sequence[Row], kind: str, names: Sequence[str]) -> dict[str, float]:
        from pycocotools.cocoeval import COCOeval

        if not rows:
            return dict.fromkeys(names, 0.0)
        with quiet():
            run = COCOeval(coco, coco.loadRes(rows), kind)
            run.params.imgIds = [p.image_id for p in self.images]
            run.params.catIds = [self._category]
            if kind == "keypoints":
                run.params.kpt_oks_sigmas = np.array(self.keypoints.oks_sigmas)
            run.evaluate()
            run.accumulate()
            run.summarize()
        return dict(zip(names, map(float, run.stats), strict=True))


def other_set(data: Annotations, images: Path | None, annotations: Path | None, option: str) -> Annotations | None:
    """Load the set of `--OPTION-images` and `--OPTION-annotations`, to fit a curve on; None: neither is given.

    Raises:
        PosewireError: one of the two is missing, an image is also in `data`, or as `Annotations`.
    """
    if images is None and annotations is None:
        return None
    if images is None or annotations is None:
        raise PosewireError(f"--{option}-images and --{option}-annotations go together: give both, or neither")
    found = Annotations(annotations, images, data.keypoints)
    contents = {_digest(image.path) for image in data.images}
    shared = next((p for p in found.images if _digest(p.path) in contents), None)
    if shared is not None:
        raise PosewireError(f"{shared.path} is among the images that are reported on: fit on others")
    return found


def _digest(path: Path) -> bytes:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _category(content: Any, keypoints: KeypointSet, file: Path) -> int:
    """Return the id of the category that has the keypoints: the first that names them, else the first.

    Raises:
        PosewireError: it names another number of keypoints, or the same ones in another order.
    """
    categories = content.get("categories") or [{"id": _PERSON}]
    found = next((row for row in categories if row.get("keypoints")), categories[0])
    names, expected = tuple(found.get("keypoints") or keypoints.names), keypoints.names
    if len(names) != len(expected):
        raise PosewireError(f"{file} has {len(names)} keypoints, the pose model {len(expected)}: choose a model of these keypoints")
    if names != expected and set(names) == set(expected):
        at = next(i for i, (name, other) in enumerate(zip(names, expected, strict=True)) if name != other)
        raise PosewireError(f"{file} has the pose model's keypoints in another order: number {at} is {names[at]}, not {expected[at]}")
    return int(found["id"])


def _join_whole_bodies(content: Any) -> None:
    """Give the annotations of COCO-WholeBody all 133 keypoints in one list, where they are apart."""
    for row in content["annotations"]:
        if all(part in row for part in _WHOLE_BODY_PARTS):
            row["keypoints"] = [number for part in ("keypoints", *_WHOLE_BODY_PARTS) for number in row[part]]
            row["num_keypoints"] = sum(visibility > 0 for visibility in row["keypoints"][2::3])
    for category in content.get("categories") or ():
        if len(category.get("keypoints") or ()) == _BODY:
            del category["keypoints"]  # they name the body's alone


def _images(content: Any, folder: Path, category: int, keypoints: KeypointSet) -> list[AnnotatedImage]:
    people: dict[int, list[Person]] = {image["id"]: [] for image in content["images"]}
    for row in content["annotations"]:
        row.setdefault("iscrowd", 0)
        if "num_keypoints" not in row:
            row["num_keypoints"] = sum(visibility > 0 for visibility in row.get("keypoints", ())[2::3])
        if row["num_keypoints"] > 0 and not row["iscrowd"] and row["category_id"] == category:
            people[row["image_id"]].append(_person(row, keypoints))
    return [AnnotatedImage(image["id"], folder / image["file_name"], tuple(people[image["id"]])) for image in content["images"]]


def _person(row: Mapping[str, Any], keypoints: KeypointSet) -> Person:
    points, count = np.array(row["keypoints"], np.float32), len(keypoints.names)
    if points.shape != (3 * count,):
        raise ValueError(
            f"annotation {row['id']} has {points.size} numbers of keypoints, not {3 * count}: x, y and visibility of {count}"
            f" ({keypoints.name}, the keypoint set of the pose model)"
        )
    box, area = np.array(row["bbox"], np.float32), float(row["area"])
    if box.shape != (4,) or not np.isfinite([*box, area, *points]).all() or min(box[2], box[3], area) <= 0:
        raise ValueError(f"annotation {row['id']} has no box and area above 0, or a number that is not finite")
    x, y, visibility = points.reshape(count, 3).T
    return Person(row["id"], box, area, np.stack([x, y], -1), visibility, np.array(keypoints.oks_sigmas, np.float32))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard the output of pycocotools, which prints its progress to standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
