"""The detector head `yolox`: YOLOX's raw export (arXiv 2107.08430)."""

import numpy as np

from posewire.pipeline.heads.base import DetectorHead, register_detector_head
from posewire.registry.specs import DetectorSpec
from posewire.types import FloatArray


@register_detector_head("yolox")
class YoloxHead(DetectorHead):
    """Rows (A, 5 + classes), one for each anchor point, stride by stride.

    A row is the centre's offset from its grid cell and the logarithm of width and height, in strides, then objectness and class
    scores.
    """

    one_by_one = False

    def __init__(self, spec: DetectorSpec) -> None:
        grids, strides = [], []
        for stride in spec.output.strides:
            rows, cols = spec.input.height // stride, spec.input.width // stride
            ys, xs = np.mgrid[:rows, :cols]
            grids.append(np.stack([xs, ys], -1).reshape(-1, 2))
            strides.append(np.full((rows * cols, 1), stride))
        self._grid = np.concatenate(grids).astype(np.float32)
        self._strides = np.concatenate(strides).astype(np.float32)
        self._score_column = 5 + spec.output.person_class

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes (A, 4) and, as scores (A,), objectness times the score of the class "person"."""
        centre = (raw[:, :2] + self._grid) * self._strides
        half = np.exp(raw[:, 2:4]) * self._strides / 2
        return np.concatenate([centre - half, centre + half], 1), raw[:, 4] * raw[:, self._score_column]
