"""The detector head `rtmdet`: the maps of RTMDet (arXiv 2212.07784) as its network gives them, a few for each stride."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from posewire.pipeline.heads.base import DetectorHead, register_detector_head
from posewire.registry.specs import DetectorOutput, DetectorSpec, Text
from posewire.types import FloatArray

_SIDES = 4  # distances to left, top, right and bottom


class RtmdetOutput(DetectorOutput):
    """The maps of RTMDet (arXiv 2212.07784), one or two outputs for each stride, whose names are given.

    One output a stride has the class scores, then the distances from a cell's point to left, top, right and bottom. With two a stride
    all outputs of scores come first, then all of distances, each from the first stride to the last.
    """

    layout: Literal["rtmdet"]
    outputs: Annotated[tuple[Text, ...], Field(min_length=1)]
    channels: Literal["first", "last"] = "first"  # of a map: (C, h, w) or (h, w, C)
    scores: Literal["logits", "probabilities"] = "logits"
    distances: Literal["pixels", "strides"] = "pixels"

    @model_validator(mode="after")
    def _has_outputs(self) -> Self:
        if len(self.outputs) not in (len(self.strides), 2 * len(self.strides)):
            raise ValueError(f"{len(self.outputs)} outputs are neither one nor two for each of {len(self.strides)} strides")
        return self


@register_detector_head("rtmdet", RtmdetOutput)
class RtmdetHead(DetectorHead):
    """The flattened maps of all strides, joined in the order of `output.outputs`.

    A cell's point is its top left corner, as in mmdet: column and row times the stride.
    """

    one_by_one = False

    def __init__(self, spec: DetectorSpec) -> None:
        assert isinstance(spec.output, RtmdetOutput)
        self._output = spec.output
        strides = spec.output.strides
        self._grids = [(spec.input.height // stride, spec.input.width // stride) for stride in strides]
        cells = [np.mgrid[:rows, :cols][::-1].reshape(2, -1).T for rows, cols in self._grids]
        steps = np.repeat(np.array(strides, np.float32), [len(level) for level in cells])[:, None]
        self._points = np.concatenate(cells).astype(np.float32) * steps
        self._unit = steps if spec.output.distances == "strides" else np.float32(1)

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes (A, 4) and the scores of the class "person" (A,)."""
        classes = len(raw) // len(self._points) - _SIDES
        if len(self._output.outputs) == len(self._grids):
            rows, _ = self._rows(raw, _SIDES + classes)
            scores, distances = rows[:, :-_SIDES], rows[:, -_SIDES:]
        else:
            scores, rest = self._rows(raw, classes)
            distances, _ = self._rows(rest, _SIDES)
        distances = distances * self._unit
        score = scores[:, self._output.person_class]
        if self._output.scores == "logits":
            score = np.asarray(1 / (1 + np.exp(-score)), np.float32)
        return np.concatenate([self._points - distances[:, :2], self._points + distances[:, 2:]], 1), score

    def _rows(self, flat: FloatArray, channels: int) -> tuple[FloatArray, FloatArray]:
        """Return the first maps, one for each stride, as rows (A, channels), and what follows them."""
        levels = []
        for rows, cols in self._grids:
            level, flat = flat[: rows * cols * channels], flat[rows * cols * channels :]
            levels.append(level.reshape(channels, -1).T if self._output.channels == "first" else level.reshape(-1, channels))
        return np.concatenate(levels), flat
