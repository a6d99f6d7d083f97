"""The detector heads `boxes_scores`, the layout of Posewire's own detectors, and `end2end`, that of graphs with suppression."""

import numpy as np

from posewire.pipeline.heads.base import DetectorHead, register_detector_head
from posewire.registry.specs import DetectorSpec
from posewire.types import FloatArray


@register_detector_head("boxes_scores")
class BoxesScoresHead(DetectorHead):
    """Rows (A, 5): x0 y0 x1 y1 in input pixels and a score 0..1."""

    one_by_one = False

    def __init__(self, spec: DetectorSpec) -> None:
        pass

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes (A, 4) and the scores (A,)."""
        return raw[:, :4], raw[:, 4]


@register_detector_head("end2end")
class EndToEndHead(DetectorHead):
    """Rows after suppression in the graph, so that their number differs from image to image.

    (A, 5) as above, or (A, 6) with the number of the class in the sixth column. Of two outputs the first are rows (A, 5), the second the
    numbers of the classes (A,).
    """

    one_by_one = True

    def __init__(self, spec: DetectorSpec) -> None:
        self._joined = len(spec.output.outputs) > 1
        self._person_class = spec.output.person_class

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes (A, 4) and the scores (A,); those of other classes than "person" are 0."""
        if self._joined:
            rows = len(raw) // 6
            raw, classes = raw[: 5 * rows].reshape(rows, 5), raw[5 * rows :]
        elif raw.shape[1] > 5:
            classes = raw[:, 5]
        else:
            return raw[:, :4], raw[:, 4]
        return raw[:, :4], np.where(classes == self._person_class, raw[:, 4], np.float32(0))
