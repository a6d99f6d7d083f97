"""Manifests with made-up downloads, beside the models that really ship."""

import hashlib
from pathlib import Path

from posewire.models.manifest import load_manifest
from posewire.models.store import default_root
from tests.models.test_graph import HEIGHT, WIDTH

FILE = bytes(range(256)) * 40
DETECTOR = """
[[downloads]]
address = "{address}"
{proof}

[downloads.model]
name = "box"
task = "detector"
title = "Made up"
licence = "CC0-1.0"
nms_iou = 0.5
input = {{ height = 96, width = 160, colour = "BGR", mean = [0, 0, 0], std = [1, 1, 1] }}
output = {{ layout = "yolox" }}
provenance = {{ made_by = "a \\"test\\"", data = "none", recipe = "none" }}
"""
POSE = f"""
[[downloads]]
address = "{{address}}"
{{proof}}
variant = "litehrnet-18"

[downloads.model]
name = "noise"
task = "pose"
title = "Weights at random"
licence = "CC0-1.0"
keypoints = "coco17"
input = {{{{ height = {HEIGHT}, width = {WIDTH}, colour = "RGB", mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }}}}
output = {{{{ layout = "heatmaps", stride = 4, sigma = 2.0, flip_shift = 1 }}}}
provenance = {{{{ made_by = "a test", data = "none", recipe = "none" }}}}
"""


def whole(content: bytes) -> str:
    """The proof of a file with all that can be known."""
    return f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nbytes = {len(content)}'


def prefix(content: bytes) -> str:
    """The proof of a file with the least that will do."""
    return f'sha256_prefix = "{hashlib.sha256(content).hexdigest()[:8]}"'


def make_store(root: Path, *downloads: str) -> Path:
    """A store with the models that ship and these downloads."""
    shipped = default_root()
    text = (shipped / "manifest.toml").read_text(encoding="utf-8").partition("[[downloads]]")[0]
    root.mkdir(parents=True)
    for folder in ("weights", "cards"):
        (root / folder).symlink_to(shipped / folder)
    (root / "manifest.toml").write_text(text + "".join(downloads), encoding="utf-8")
    load_manifest(root / "manifest.toml")
    return root
