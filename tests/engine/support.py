"""What the tests of the engine share."""

import numpy as np

from posewire.engine.engine import Engine
from posewire.types import PoseResult


def value(engine: Engine, name: str, **labels: str) -> float:
    """A sample of a metric."""
    wanted = name + ("{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else "")
    lines = engine.metrics.render()[0].decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{wanted} ")).split()[-1])


def assert_same(one: PoseResult, other: PoseResult) -> None:
    """Two results have the same people, within what batches change."""
    assert (one.width, one.height, len(one.people)) == (other.width, other.height, len(other.people))
    for a, b in zip(one.people, other.people, strict=True):
        np.testing.assert_allclose(a.box_xywh, b.box_xywh, atol=0.01)
        np.testing.assert_allclose(a.keypoints.xy, b.keypoints.xy, atol=0.01)
        np.testing.assert_allclose([a.score, *a.keypoints.scores], [b.score, *b.keypoints.scores], atol=1e-4)
