"""The model of every peer: encoded images in, JSON out, many images a call.

It is Posewire's own pipeline, with both models in ONNX Runtime on one intra-op thread; what differs between the peers is how requests
reach it.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from posewire import PosePipeline, PoseResult
from posewire.backends.base import OpenedModel, Unsupported, register_backend
from posewire.backends.device import DevicePlan, Runtime
from posewire.registry.specs import ModelSpec
from posewire.registry.store import ModelStore
from posewire.schemas.pose import ImageOut, ModelNames, PoseResponse
from posewire.types import FloatArray, InputFormat, UInt8Array

# Path of an ONNX file in place of the pose model that ships: `--plain` sets it.
PLAIN = "LOADTESTS_PLAIN"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Batching of the peers that batch: the sizes and waits of their documentation's examples are for GPUs; on this machine
# a longer wait only adds latency, and a larger batch only makes its first image wait for its last.
MAX_BATCH = 4
BATCH_WAIT_S = 0.002

_Run = Callable[[FloatArray | UInt8Array], FloatArray]


@register_backend("plain")
def _open_plain(spec: ModelSpec, _: ModelStore, __: DevicePlan, ___: Runtime) -> OpenedModel:
    if spec.task != "pose" or PLAIN not in os.environ:
        raise Unsupported(f"the plain export is a pose model, named by {PLAIN}")
    return OpenedModel(PlainSession(Path(os.environ[PLAIN])), spec)


class PlainSession:
    """A plain export as its users open it: no dimension overridden. A batch runs whole or item by item, as is faster here."""

    provider = "CPUExecutionProvider"
    input_format: InputFormat = "float32-nchw"

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        source, result = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input = source.name
        self.input_shape, self.output_shape = tuple(source.shape[1:]), tuple(result.shape[1:])
        self._run = self._faster(np.zeros((MAX_BATCH, *self.input_shape), np.float32))

    def run(self, batch: FloatArray | UInt8Array, *, exclusive: bool = False) -> FloatArray:  # noqa: ARG002 - the interface
        """The heatmaps of a batch."""
        return self._run(batch)

    def open_size(self, size: int) -> bool:  # noqa: ARG002 - the interface
        """Every size runs already."""
        return True

    def close_size(self, size: int) -> None:
        """Every size runs still."""

    def padding(self, items: int) -> int:  # noqa: ARG002 - the interface
        """No size is padded."""
        return 0

    def open_exclusive(self) -> bool:
        """There is one thread."""
        return False

    def _whole(self, batch: FloatArray | UInt8Array) -> FloatArray:
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)

    def _one_by_one(self, batch: FloatArray | UInt8Array) -> FloatArray:
        return np.concatenate([self._whole(batch[i : i + 1]) for i in range(len(batch))])

    def _faster(self, blank: FloatArray) -> _Run:
        """The way that is faster on this machine, so that no peer is made slow."""
        ways: dict[_Run, list[float]] = {self._one_by_one: [], self._whole: []}
        for _ in range(10):
            for way, seconds in ways.items():
                started = time.perf_counter()
                way(blank)
                seconds.append(time.perf_counter() - started)
        return min(ways, key=lambda way: float(np.median(ways[way])))


class Model:
    """The pipeline and its JSON; `answer` may be called from several threads."""

    def __init__(self) -> None:
        runtime = "plain" if os.environ.get(PLAIN) else "onnxruntime"
        self._pipeline = PosePipeline.load(device="cpu", threads=1, pose_runtime=runtime)

    def answer(self, images: Sequence[bytes]) -> list[bytes]:
        """One JSON body an image, as Posewire answers; the crops of all images go through the pose model together.

        Raises:
            BadPicture, TooLarge: of one of them.
        """
        return [self._render(result) for result in self._pipeline.batch(images)]

    def _render(self, result: PoseResult) -> bytes:
        detector, pose = self._pipeline.detector.spec, self._pipeline.pose.spec
        body = PoseResponse.model_construct(
            request_id="",
            model=ModelNames(detector=detector.name, pose=pose.name),
            images=[ImageOut.from_result(result, pose.keypoints.names, 0.0)],
        )
        return body.model_dump_json().encode()
