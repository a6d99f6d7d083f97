"""A teacher that is a file, run as it is: ONNX by ONNX Runtime, OpenVINO's IR by OpenVINO; on the CPU, one thread."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from model_store.training.teachers import Taught
from posewire.errors import PosewireError
from posewire.types import FloatArray


class _Runtime(Protocol):
    """Runs a file."""

    def __call__(self, images: FloatArray) -> list[FloatArray]:
        """The outputs that were asked for."""


class FileTeacher:
    """See `Teacher`. The package that runs the file is imported here, and nowhere else.

    Args:
        file: `.onnx`, or `.xml` with its `.bin` beside it.
        answer: names of the tensors that are the answer.
        maps: names of the tensors of each place; of an OpenVINO IR also names of layers.
        finish: makes the network's answer of the file's, if it is another.

    Raises:
        PosewireError: the file cannot be read, has no such tensor, or nothing is installed that runs it.
    """

    def __init__(
        self,
        file: Path,
        answer: Sequence[str],
        maps: Mapping[str, Sequence[str]],
        finish: Callable[[list[Tensor]], list[Tensor]] = lambda answer: answer,
    ) -> None:
        self._maps = maps
        self._answers = len(answer)
        self._finish = finish
        names = [*answer, *(name for named in maps.values() for name in named)]
        self._run: _Runtime = _OpenVino(file, names) if file.suffix == ".xml" else _OnnxRuntime(file, names)

    def __call__(self, images: Tensor) -> Taught:
        """Look at images."""
        found = self._run(np.ascontiguousarray(images.float().cpu().numpy()))
        tensors = [torch.from_numpy(array).to(images.device, memory_format=torch.channels_last) for array in found]
        rest = iter(tensors[self._answers :])
        maps = {place: [next(rest) for _ in named] for place, named in self._maps.items()}
        return Taught(self._finish(tensors[: self._answers]), maps)


class _OnnxRuntime:
    def __init__(self, file: Path, names: Sequence[str]) -> None:
        try:
            import onnx  # noqa: PLC0415 - only who asks for a file needs what runs it
            import onnxruntime  # noqa: PLC0415
        except ImportError as error:
            raise PosewireError(f"the teacher {file} needs a package: pip install {error.name}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            model = onnx.load(file)
            known = {output.name for output in model.graph.output}
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
            self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnx and ONNX Runtime have classes of their own for each fault
            raise PosewireError(f"the teacher {file} cannot be read: {str(error).splitlines()[0]}") from None
        self._file, self._names = file, list(names)
        self._input = self._session.get_inputs()[0]

    def __call__(self, images: FloatArray) -> list[FloatArray]:
        batch, _, *size = self._input.shape
        if all(isinstance(length, int) for length in size) and size != list(images.shape[2:]):
            told = f"{images.shape[2]}x{images.shape[3]}"
            raise PosewireError(f"the teacher {self._file} takes images of {size[0]}x{size[1]}, the stage has {told}")
        step = batch if isinstance(batch, int) else len(images)
        parts = [
            self._session.run(self._names, {self._input.name: _filled(images[i : i + step], step)}) for i in range(0, len(images), step)
        ]
        return [np.concatenate(found)[: len(images)] for found in zip(*parts, strict=True)]


def _filled(images: FloatArray, batch: int) -> FloatArray:
    """Of a file with a fixed batch: black behind the last images."""
    lacking = np.zeros((batch - len(images), *images.shape[1:]), np.float32)
    return np.concatenate([images, lacking]) if len(lacking) else images


class _OpenVino:
    # Pinned, every process would sit on the first core.
    _OPTIONS = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}  # noqa: RUF012

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        self._core, model = read_ir(file)
        layers = {layer.get_friendly_name(): layer.output(0) for layer in model.get_ordered_ops() if layer.get_output_size() == 1}
        tensors = {name: output for output in layers.values() for name in output.get_names()}
        lacking = [name for name in names if name not in tensors and name not in layers]
        if lacking:
            raise PosewireError(f"the teacher {file} has no tensor or layer {lacking[0]}")
        # Names of their own, as one output may be asked for twice and a layer's output need not have a name.
        self._names = [f"taught-{number}" for number in range(len(names))]
        for own, name in zip(self._names, names, strict=True):
            output = tensors.get(name) or layers[name]
            output.set_names({*output.get_names(), own})
        model.add_outputs(self._names)
        self._file, self._model = file, model
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._input = model.inputs[0]

    def __call__(self, images: FloatArray) -> list[FloatArray]:
        compiled = self._compiled.get(images.shape) or self._compile(images.shape)
        found = compiled(images)
        return [np.array(found[name], np.float32) for name in self._names]

    def _compile(self, shape: tuple[int, ...]) -> Any:
        try:
            self._model.reshape({self._input.any_name: list(shape)})
            made = self._core.compile_model(self._model, "CPU", self._OPTIONS)
        except RuntimeError as error:
            told = str(error).splitlines()[-1].strip()
            raise PosewireError(f"the teacher {self._file} does not take images of {shape[2]}x{shape[3]}: {told}") from None
        self._compiled[shape] = made
        return made


def read_ir(file: Path) -> tuple[Any, Any]:
    """OpenVINO's core and the model of an IR.

    Raises:
        PosewireError: OpenVINO is not installed, or the file cannot be read.
    """
    try:
        import openvino  # noqa: PLC0415 - only who asks for a file needs what runs it
    except ImportError:
        raise PosewireError(f"the teacher {file} needs OpenVINO: pip install openvino") from None
    core = openvino.Core()
    if not file.is_file():
        raise PosewireError(f"the teacher {file} cannot be read: there is no such file")
    try:
        return core, core.read_model(str(file))
    except RuntimeError as error:
        raise PosewireError(f"the teacher {file} cannot be read: {str(error).splitlines()[-1].strip()}") from None
