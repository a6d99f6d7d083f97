"""A detector as mmdeploy exports it, and zip archives around it."""

import hashlib
import io
import zipfile
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INNER = "20230831/rtmdet_onnx/net-05d8511e/end2end.onnx"
# Two that overlap, one apart and a faint one: x0 y0 x1 y1 in input pixels, and how bright white makes them.
BOXES = [[96, 0, 256, 320], [100, 4, 260, 316], [10, 20, 60, 120], [0, 0, 30, 30]]
SCORES = [0.9, 0.8, 0.6, 0.1]
ENTRY = """
[[downloads]]
address = "{address}"
{proof}
[downloads.model]
name = "people"
task = "detector"
title = "Made up"
licence = "CC0-1.0"
nms_iou = 0.65
input = {{ height = 320, width = 320, colour = "BGR", mean = [0, 0, 0], std = [255, 255, 255] }}
output = {{ layout = "end2end" }}
provenance = {{ made_by = "a test", data = "none", recipe = "none" }}
"""


@cache
def end2end_model() -> bytes:
    """Suppression inside, then a row of zeros, as mmdeploy writes it: (1, 3, 320, 320) -> dets (1, N, 5), labels (1, N)."""
    constants: dict[str, NDArray[Any]] = {
        "boxes": np.array([BOXES], np.float32),
        "weights": np.array([[SCORES]], np.float32),
        "most": np.array([200], np.int64),
        "iou": np.array([0.6], np.float32),
        "floor": np.array([0.05], np.float32),
        "third": np.array([2], np.int64),
        "nothing": np.zeros((1, 1, 5), np.float32),
        "no_label": np.zeros((1, 1), np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["brightness"], keepdims=0, axes=[0, 1, 2, 3]),
        helper.make_node("Mul", ["weights", "brightness"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "floor"], ["chosen"]),
        helper.make_node("Gather", ["chosen", "third"], ["column"], axis=1),
        helper.make_node("Squeeze", ["column", "one"], ["index"]),
        helper.make_node("Gather", ["boxes", "index"], ["kept"], axis=1),
        helper.make_node("Gather", ["scores", "index"], ["flat"], axis=2),
        helper.make_node("Transpose", ["flat"], ["upright"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["kept", "upright"], ["rows"], axis=2),
        helper.make_node("Concat", ["rows", "nothing"], ["dets"], axis=1),
        helper.make_node("Squeeze", ["flat", "one"], ["flatter"]),
        helper.make_node("Cast", ["flatter"], ["classes"], to=TensorProto.INT64),
        helper.make_node("Concat", ["classes", "no_label"], ["labels"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "end2end",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 320, 320])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, "n", 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [1, "n"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def zip_of(*files: tuple[str, bytes]) -> bytes:
    """An archive of these files, in order."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("20230831/", b"")
        for name, content in files:
            archive.writestr(name, content)
    return packed.getvalue()


def member(content: bytes, *, name: str = "end2end.onnx", size: bool = False) -> str:
    """The proof of a file in an archive."""
    more = f", bytes = {len(content)}" if size else ""
    return f'member = {{ name = "{name}", sha256 = "{hashlib.sha256(content).hexdigest()}"{more} }}\n'
