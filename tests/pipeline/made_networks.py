"""Small networks with known answers, and a store that serves them."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Answers = Mapping[str, NDArray[Any]]  # by the names of the outputs, without the batch
OPSET, IR = 17, 9


def constant_network(height: int, width: int, answers: Answers, *, batch: int | str = "batch") -> bytes:
    """A network (batch, 3, height, width) that gives every image the same answers; those of whole numbers are int64."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
    ]
    constants: dict[str, NDArray[Any]] = {"zero": np.zeros(1, np.float32)}
    outputs = []
    for name, values in answers.items():
        whole = values.dtype == np.int64
        constants[f"{name}_values"] = values[None].astype(np.float32)
        constants[f"{name}_shape"] = np.array([-1, *[1] * values.ndim], np.int64)
        nodes.append(helper.make_node("Reshape", ["zeros", f"{name}_shape"], [f"{name}_zeros"]))
        added = f"{name}_added" if whole else name
        nodes.append(helper.make_node("Add", [f"{name}_zeros", f"{name}_values"], [added]))
        if whole:
            nodes.append(helper.make_node("Cast", [added], [name], to=TensorProto.INT64))
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, kind, [batch, *values.shape]))
    return to_bytes(nodes, height, width, outputs, constants, batch=batch)


def brightest_network(height: int, width: int, keypoints: int) -> bytes:
    """A network with RTMPose's outputs, whose keypoints all lie on the brightest pixel of the crop; its value is their score."""
    constants: dict[str, NDArray[Any]] = {"zero": np.zeros(1, np.float32), "ones": np.ones((1, keypoints, 1), np.float32)}
    nodes, outputs = [], []
    for name, axes, side in (("simcc_x", [1, 2], width), ("simcc_y", [1, 3], height)):
        constants[f"{name}_column"] = np.array([-1, side, 1], np.int64)
        constants[f"{name}_row"] = np.array([-1, 1, 2 * side], np.int64)
        nodes += [
            helper.make_node("ReduceMax", ["input"], [f"{name}_most"], axes=axes, keepdims=0),
            helper.make_node("Reshape", [f"{name}_most", f"{name}_column"], [f"{name}_pixels"]),
            helper.make_node("Mul", [f"{name}_pixels", "zero"], [f"{name}_between"]),
            helper.make_node("Concat", [f"{name}_pixels", f"{name}_between"], [f"{name}_pairs"], axis=2),
            helper.make_node("Reshape", [f"{name}_pairs", f"{name}_row"], [f"{name}_classes"]),
            helper.make_node("Mul", [f"{name}_classes", "ones"], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", keypoints, 2 * side]))
    return to_bytes(nodes, height, width, outputs, constants)


def brightness_network(side: int, scale: NDArray[Any], shift: NDArray[Any], output: str = "output") -> bytes:
    """A network (batch, 3, side, side) -> (batch, *scale.shape), two axes: the image's mean, times `scale`, plus `shift`."""
    constants: dict[str, NDArray[Any]] = {"scale": scale[None], "shift": shift[None], "shape": np.array([-1, 1, 1], np.int64)}
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], [output]),
    ]
    return to_bytes(nodes, side, side, [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *scale.shape])], constants)


def to_bytes(
    nodes: Sequence[Any], height: int, width: int, outputs: Sequence[Any], constants: Answers, *, batch: int | str = "batch"
) -> bytes:
    """The ONNX file of a graph with one input of images."""
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, height, width])],
        list(outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return bytes(model.SerializeToString())


def simcc_answers(xy: NDArray[Any], scores: NDArray[Any], height: int, width: int, ratio: float = 2.0) -> Answers:
    """RTMPose's outputs for keypoints (K, 2) in input pixels."""
    x, y = np.zeros((len(xy), round(width * ratio)), np.float32), np.zeros((len(xy), round(height * ratio)), np.float32)
    for k, (px, py) in enumerate(np.round(xy * ratio).astype(int)):
        x[k, px] = y[k, py] = scores[k]
    return {"simcc_x": x, "simcc_y": y}


def entry(root: Path, name: str, content: bytes, height: int, width: int, **rest: object) -> dict[str, object]:
    """The manifest's entry of a model, whose file is written."""
    (root / f"{name}.onnx").write_bytes(content)
    return {
        **{"name": name, "title": "Made up", "file": f"{name}.onnx", "card": "card.md", "licence": "CC0-1.0"},
        **{"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        "provenance": {"made_by": "a test", "data": "none", "recipe": "none"},
        "input": {"height": height, "width": width, "colour": "RGB", "mean": [0, 0, 0], "std": [255, 255, 255]},
        **rest,
    }


def write_store(root: Path, *entries: dict[str, object], defaults: Mapping[str, str] | None = None) -> Path:
    """A store whose models are served beside those that ship; with defaults, in their place."""
    (root / "manifest.toml").write_text(tomli_w.dumps(({"defaults": dict(defaults)} if defaults else {}) | {"models": list(entries)}))
    return root
