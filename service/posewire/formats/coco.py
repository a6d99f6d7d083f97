"""COCO's results list: https://cocodataset.org/#format-results (keypoint detection, with the box of each person)."""

from typing import Any

from pydantic_core import to_json

from posewire.formats.base import SCORE_DECIMALS, Format, FormatOptions, ImagePoses, box_row, rounded, scale_of, xy_rows
from posewire.types import FloatArray, PoseResult


class JsonList:
    """The head, the tail and the commas of a JSON list, to which every image adds rows."""

    def __init__(self) -> None:
        self._first = True

    def head(self) -> bytes:
        """Return the bracket."""
        return b"["

    def tail(self) -> bytes:
        """Return the bracket."""
        return b"]"

    def rows(self, rows: list[dict[str, Any]]) -> bytes:
        """Return more rows of the list."""
        if not rows:
            return b""
        comma = b"" if self._first else b","
        self._first = False
        return comma + to_json(rows)[1:-1]


class CocoEncoder(JsonList):
    """Writes a row per person."""

    def __init__(self, options: FormatOptions) -> None:
        super().__init__()
        self._options = options

    def image(self, image: ImagePoses) -> bytes:
        """Return the rows of an image."""
        result, options = image.result, self._options
        scale = scale_of(result, normalized=options.normalized)
        return self.rows(coco_rows(result, image.id, options.min_keypoint_score, scale))


def coco_rows(result: PoseResult, image_id: int | str, min_keypoint_score: float, scale: FloatArray | None = None) -> list[dict[str, Any]]:
    """Return people as rows of COCO's results list; a missing keypoint is 0 0 0, COCO's value for it.

    Args:
        result: of the image.
        image_id: of the image.
        min_keypoint_score: 0..1; keypoints below it are missing.
        scale: divisor (2,) of x and y; None: pixels.
    """
    rows = []
    for pose in result.people:
        flat: list[float] = []
        scores = pose.keypoints.scores
        values = zip(xy_rows(pose, scale), rounded(scores, SCORE_DECIMALS), scores.tolist(), strict=True)
        for (x, y), score, exact in values:
            flat += [x, y, score] if exact >= min_keypoint_score else [0.0, 0.0, 0.0]
        row = {"image_id": image_id, "category_id": 1, "keypoints": flat, "score": round(pose.score, SCORE_DECIMALS)}
        rows.append(row | {"bbox": box_row(pose, scale)})
    return rows


FORMAT = Format("coco", "application/json", ".json", CocoEncoder)
