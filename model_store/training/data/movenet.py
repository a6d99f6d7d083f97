"""MoveNet Thunder (Google, Apache-2.0) as a teacher, read through OpenVINO: 0.50 AP on COCO val persons with ground-truth boxes."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posewire.errors import PosewireError
from posewire.types import FloatArray, UInt8Array

_SIDE = 256


class MoveNet:
    """A teacher: image and box to keypoints. One thread at a time.

    Args:
        folder: with `movenet-thunder.xml` and `.bin`: (1, 256, 256, 3) int32 RGB of a square about the person to (1, 1, 17, 3) y, x, score.

    Raises:
        PosewireError: OpenVINO is not installed, or the folder has no such model.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import openvino  # noqa: PLC0415 - an extra; other teachers do without
        except ImportError:
            raise PosewireError("MoveNet needs OpenVINO: pip install openvino") from None
        file = folder / "movenet-thunder.xml"
        if not file.is_file():
            raise PosewireError(f"{file} is not there: name the folder of MoveNet Thunder in OpenVINO's format")
        # Pinning puts every process on the first core.
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        self._request: Any = openvino.Core().compile_model(file, "CPU", options).create_infer_request()

    def __call__(self, pixels: UInt8Array, box_xywh: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The square about the box is shown; see `teacher.Teacher`."""
        side = max(float(box_xywh[2:].max()), 1.0)
        corner = box_xywh[:2] + box_xywh[2:] / 2 - side / 2
        scale = side / _SIDE
        to_image = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        square = cv2.warpAffine(pixels, to_image, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        found = np.asarray(self._request.infer([square[None].astype(np.int32)])[0])[0, 0]
        return (found[:, 1::-1] * side + corner).astype(np.float32), found[:, 2].astype(np.float32)
