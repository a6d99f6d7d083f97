"""The detector heads `boxes_scores`, the layout of Posewire's own detectors, and `end2end`, that of mmdeploy's exports."""

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
class EndToEndHead(BoxesScoresHead):
    """The same rows after suppression in the graph, so that their number differs from image to image."""

    one_by_one = True
