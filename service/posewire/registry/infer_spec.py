"""Infer the spec of a pose model from its file."""

import hashlib

from posewire.errors import ModelError
from posewire.registry.manifest import Manifest
from posewire.registry.specs import DetectorSpec, HeatmapOutput, PoseSpec


def infer_spec(content: bytes, name: str, manifest: Manifest, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> PoseSpec:
    """Return the spec of a file: that of the manifest if it has the file, else that of the default pose model, at the file's size.

    Args:
        content: the bytes of the ONNX file.
        name: of the file, for errors.
        manifest: lists the known models.
        input_shape: of one item.
        output_shape: of one item.

    Raises:
        ModelError: the file is a detector, or its shapes are not those of crops and heatmaps of the default pose model.
    """
    known = require_pose(content, name, manifest)
    if known is not None:
        return known
    like = manifest.default("pose")
    if not isinstance(like.output, HeatmapOutput):
        raise ModelError(f"{name} is not in the manifest, and its default pose model {like.name} gives no heatmaps to compare with")
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise ModelError(f"{name} takes {input_shape}; its input is not known: images (3, height, width) are needed")
    height, width = input_shape[1:]
    expected = (len(like.keypoints.names), height // like.output.stride, width // like.output.stride)
    if output_shape != expected:
        raise ModelError(f"{name} gives {output_shape} for {input_shape}; heatmaps {expected}, as {like.name} gives them, are needed")
    return like.model_copy(update={"name": name, "input": like.input.model_copy(update={"height": height, "width": width})})


def require_pose(content: bytes, name: str, manifest: Manifest) -> PoseSpec | None:
    """Return the manifest's pose model that has this file; None: no model has it.

    Raises:
        ModelError: it is the file of a detector.
    """
    digest = hashlib.sha256(content).hexdigest()
    known = next((spec for spec in manifest.models if spec.sha256 == digest), None)
    if isinstance(known, DetectorSpec):
        raise ModelError(f"{name} is the detector {known.name}; only pose models are quantized")
    return known
