"""What a pose model's file takes and gives, where only the file is given."""

import hashlib

from posewire.errors import ModelError
from posewire.registry.manifest import Manifest
from posewire.registry.specs import DetectorSpec, HeatmapOutput, PoseSpec


def infer_spec(content: bytes, name: str, manifest: Manifest, takes: tuple[int, ...], gives: tuple[int, ...]) -> PoseSpec:
    """The spec of a file: the manifest's where the file is one of its models, else the default pose model's, at the file's size.

    Args:
        content: the bytes of the ONNX file.
        name: of the file, for errors.
        manifest: has the models that are known.
        takes: shape of one item of its input.
        gives: shape of one item of its output.

    Raises:
        ModelError: it is a detector, or does not take crops and give heatmaps as the default pose model does.
    """
    known = require_pose(content, name, manifest)
    if known is not None:
        return known
    like = manifest.default("pose")
    if not isinstance(like.output, HeatmapOutput):
        raise ModelError(f"{name} is not in the manifest, and its default pose model {like.name} gives no heatmaps to compare with")
    if len(takes) != 3 or takes[0] != 3:
        raise ModelError(f"{name} takes {takes}; its input is not known: pictures (3, height, width) are needed")
    height, width = takes[1:]
    expected = (len(like.keypoints.names), height // like.output.stride, width // like.output.stride)
    if gives != expected:
        raise ModelError(f"{name} gives {gives} for {takes}; heatmaps {expected}, as {like.name} gives them, are needed")
    return like.model_copy(update={"name": name, "input": like.input.model_copy(update={"height": height, "width": width})})


def require_pose(content: bytes, name: str, manifest: Manifest) -> PoseSpec | None:
    """The manifest's pose model that has this file; None: no model has it.

    Raises:
        ModelError: it is the file of a detector.
    """
    digest = hashlib.sha256(content).hexdigest()
    known = next((spec for spec in manifest.models if spec.sha256 == digest), None)
    if isinstance(known, DetectorSpec):
        raise ModelError(f"{name} is the detector {known.name}; only pose models are quantized")
    return known
