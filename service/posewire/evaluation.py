"""COCO average precision (pycocotools) of anything that answers pictures with people."""

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from posewire.errors import PosewireError
from posewire.types import FloatArray

# A COCO results row less its image_id.
Row: TypeAlias = dict[str, Any]

# Encoded picture and the caller's boxes (N, 4) x y w h, or None, to rows.
Predict: TypeAlias = Callable[[bytes, FloatArray | None], Awaitable[Sequence[Row]]]

_KEYPOINT_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
_BOX_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to evaluate on."""

    image_id: int
    path: Path
    boxes_xywh: FloatArray  # (N, 4) float32: the annotated people that have keypoints


class Annotations:
    """COCO person keypoints with their pictures.

    Args:
        file: COCO's JSON.
        folder: where the pictures lie.

    Raises:
        PosewireError: the file is not COCO keypoints, a picture is missing, or pycocotools is not installed.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        try:
            from pycocotools.coco import COCO
        except ImportError:
            raise PosewireError("evaluation needs pycocotools: pip install 'posewire[evaluate]'") from None
        try:
            content = json.loads(file.read_text())
            people = defaultdict(list)
            for row in content["annotations"]:
                if row["num_keypoints"] > 0 and not row["iscrowd"]:
                    people[row["image_id"]].append(row["bbox"])
            self.pictures = [
                Picture(im["id"], folder / im["file_name"], np.array(people[im["id"]], np.float32).reshape(-1, 4))
                for im in content["images"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise PosewireError(f"{file} is not a file of COCO person keypoints: {type(error).__name__}: {error}") from None
        missing = next((p.path for p in self.pictures if not p.path.is_file()), None)
        if missing is not None:
            raise PosewireError(f"{missing} is named in {file} but is not there")
        with _quiet():
            self._coco = COCO(str(file))

    def keypoint_ap(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """OKS average precision and recall, 0..1, by COCO's protocol."""
        return self._score(rows, "keypoints", _KEYPOINT_NAMES)

    def box_ap(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Average precision of the people's boxes, 0..1, by COCO's protocol."""
        return self._score(
            [{k: row[k] for k in ("image_id", "category_id", "score")} | {"bbox": list(row["bbox"])} for row in rows], "bbox", _BOX_NAMES
        )

    def _score(self, rows: Sequence[Mapping[str, Any]], kind: str, names: Sequence[str]) -> dict[str, float]:
        from pycocotools.cocoeval import COCOeval

        if not rows:
            return dict.fromkeys(names, 0.0)
        with _quiet():
            run = COCOeval(self._coco, self._coco.loadRes([dict(row) for row in rows]), kind)
            run.params.imgIds = [p.image_id for p in self.pictures]
            run.params.catIds = [1]
            run.evaluate()
            run.accumulate()
            run.summarize()
        return dict(zip(names, map(float, run.stats), strict=False))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pycocotools tells its progress on standard output, which is ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
