"""Manifests with made-up downloads, beside the models that really ship."""

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posewire.registry.installed import manifest_text
from posewire.registry.manifest import load_manifest
from posewire.registry.store import ModelStore, default_root
from tests.compiler.test_graph import HEIGHT, WIDTH

FILE = bytes(range(256)) * 40
DETECTOR_NAME, POSE_NAME = ModelStore().manifest.defaults.detector, ModelStore().manifest.defaults.pose
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


def silent_store(root: Path) -> tuple[Path, Path]:
    """A store of the models that ship, and of its default pose model, which is a pipe: who opens it waits until somebody writes."""
    for source in default_root().rglob("*"):
        if source.is_file():
            target = root / source.relative_to(default_root())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
    weights = root / ModelStore().manifest.default("pose").file
    weights.unlink()
    os.mkfifo(weights)
    return root, weights


def make_store(root: Path, *entries: str) -> Path:
    """A store with the models that ship, and of downloads and pairs with these entries only."""
    shipped = default_root()
    models = (shipped / "manifest.toml").read_text(encoding="utf-8").partition("[[downloads]]")[0]
    before, models = models.split("[[models]]", 1)
    text = f"{before.partition('[pairs.')[0]}[[models]]{models}"
    root.mkdir(parents=True)
    for folder in ("weights", "cards"):
        (root / folder).symlink_to(shipped / folder)
    (root / "manifest.toml").write_text(text + "".join(entries), encoding="utf-8")
    load_manifest(root / "manifest.toml")
    return root


def other_pose() -> str:
    """An entry for the pose model that ships, as one of another name, without its kernels."""
    spec = ModelStore().manifest.default("pose").model_copy(update={"name": "other-pose", "kernels": None})
    return "\n" + manifest_text((spec,))


def pair(name: str, pose: str = POSE_NAME, detector: str = DETECTOR_NAME) -> str:
    """An entry for a pair."""
    return f'\n[pairs.{name}]\ndetector = "{detector}"\npose = "{pose}"\nabout = "for {name} tests"\n'


@contextmanager
def file_limit(most: int | None) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as on a disk that is full; None: no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, before if most is None else (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
