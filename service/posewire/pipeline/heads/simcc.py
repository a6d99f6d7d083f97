"""The pose head `simcc`: two classifications for each keypoint, one of x and one of y (SimCC, arXiv 2107.03332).

RTMPose (arXiv 2303.07399) has this head; mmdeploy exports it with the outputs `simcc_x` and `simcc_y`.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from posewire.config import Decoding
from posewire.pipeline.heads.base import PoseHead, refuse_other_decoding, register_pose_head
from posewire.registry.specs import Output, PoseSpec, Positive, Text
from posewire.types import FloatArray


class SimccOutput(Output):
    """Two outputs of one classification each: (batch, K, width * split_ratio) for x and (batch, K, height * split_ratio) for y."""

    layout: Literal["simcc"]
    outputs: Annotated[tuple[Text, ...], Field(min_length=2, max_length=2)] = ("simcc_x", "simcc_y")
    split_ratio: Positive = 2.0  # classes an input pixel


@register_pose_head("simcc", SimccOutput)
class SimccHead(PoseHead):
    """Joined outputs: the classes of x (N, K, width * split_ratio), then those of y (N, K, height * split_ratio).

    Raises:
        ConfigError: another decoding than the default is asked for.
    """

    def __init__(self, spec: PoseSpec, decoding: Decoding, *, flip_test: bool) -> None:  # noqa: ARG002 - the flip test changes no shape
        assert isinstance(spec.output, SimccOutput)
        refuse_other_decoding(decoding, f"needs heatmaps, but {spec.name} gives classes of x and y: choose a model of heatmaps")
        self._ratio = np.float32(spec.output.split_ratio)
        self._count = len(spec.keypoints.names)
        self._columns, self._rows = (round(side * spec.output.split_ratio) for side in (spec.input.width, spec.input.height))
        self.output_shape = (self._count * (self._columns + self._rows),)
        self._mirrored = spec.keypoints.mirrored

    def decode(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return keypoints (N, K, 2) in input pixels, and the lower of both maxima (N, K), clipped to 0..1, as scores."""
        x, y = self._split(raw)
        xy = np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(np.float32) / self._ratio
        return xy, np.clip(np.minimum(x.max(-1), y.max(-1)), 0, 1)

    def merge_mirrored(self, raw: FloatArray, mirrored: FloatArray) -> FloatArray:
        """Return the mean of the classes and those of the mirrored crops."""
        x, y = self._split(mirrored)
        back = [x[:, self._mirrored, ::-1].reshape(len(raw), -1), y[:, self._mirrored].reshape(len(raw), -1)]
        return (raw + np.concatenate(back, 1)) * np.float32(0.5)

    def _split(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the classes of x (N, K, columns) and of y (N, K, rows)."""
        at = self._count * self._columns
        return raw[:, :at].reshape(-1, self._count, self._columns), raw[:, at:].reshape(-1, self._count, self._rows)
