"""A model store of two made-up models, whose weights are a few bytes."""

import hashlib
from pathlib import Path

import pytest

WEIGHTS = {"dot.onnx": b"a pose model, honestly", "box.onnx": b"a detector"}

_MODEL = """
[[models]]
name = "{name}"
task = "{task}"
title = "Made up"
file = "{file}"
sha256 = "{sha256}"
bytes = {size}
licence = "CC0-1.0"
card = "{name}.md"
provenance = {{ made_by = "a test", data = "none", recipe = "none" }}
"""
_POSE = """
keypoints = "coco-17"
input = { height = 64, width = 48, colour = "RGB", mean = [1, 2, 3], std = [4, 5, 6] }
output = { layout = "heatmaps", stride = 2, sigma = 1.5, flip_shift = 1 }
"""
_DETECTOR = """
nms_iou = 0.5
input = { height = 96, width = 160, colour = "BGR", mean = [0, 0, 0], std = [1, 1, 1] }
output = { layout = "yolox" }
"""


def _entry(name: str, task: str, rest: str) -> str:
    content = WEIGHTS[f"{name}.onnx"]
    digest = hashlib.sha256(content).hexdigest()
    return _MODEL.format(name=name, task=task, file=f"{name}.onnx", sha256=digest, size=len(content)) + rest


@pytest.fixture
def store_root(tmp_path: Path) -> Path:
    """A folder with a manifest and the weights that it names."""
    for name, content in WEIGHTS.items():
        (tmp_path / name).write_bytes(content)
    text = '[defaults]\ndetector = "box"\npose = "dot"\n' + _entry("dot", "pose", _POSE) + _entry("box", "detector", _DETECTOR)
    (tmp_path / "manifest.toml").write_text(text)
    return tmp_path
