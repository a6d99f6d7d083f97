"""A teacher of heatmaps: an ONNX file as `posewire models compile` makes it."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from posewire.errors import PosewireError
from posewire.types import FloatArray


class HeatmapTeacher:
    """(N, 3, H, W) float32 normalised to heatmaps (N, 17, H / 4, W / 4) float32, 0..1.

    Raises:
        PosewireError: the file cannot be read by ONNX Runtime.
    """

    def __init__(self, file: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has classes of its own for each fault
            raise PosewireError(f"the teacher {file} cannot be read: {str(error).splitlines()[0]}") from None
        self._input = self._session.get_inputs()[0]

    def __call__(self, pictures: FloatArray) -> FloatArray:
        """Look at a batch.

        Raises:
            PosewireError: the teacher is for pictures of another size.
        """
        size = list(self._input.shape[2:])
        if all(isinstance(length, int) for length in size) and size != list(pictures.shape[2:]):
            raise PosewireError(f"the teacher takes pictures of {size[0]}x{size[1]}, the stage has {pictures.shape[2]}x{pictures.shape[3]}")
        return np.asarray(self._session.run(None, {self._input.name: pictures})[0], np.float32)
