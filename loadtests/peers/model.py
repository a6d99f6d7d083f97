"""What every peer serves: encoded pictures in, JSON out, many pictures a call.

Decoding, scaling, suppression, cutting and keypoint decoding are Posewire's own functions, and its own session opens the two
ONNX files that ship, with one intra-op thread; what differs between the peers is how requests reach this.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime

from posewire.backends.onnxruntime import OnnxSession
from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.schemas.pose import ImageOut, ModelNames, PoseResponse
from posewire.telemetry.metrics import Metrics
from posewire.types import FloatArray, Keypoints, Pose, PoseResult, UInt8Array

# Path of an ONNX file in place of the pose model that ships: `--plain` sets it.
PLAIN = "LOADTESTS_PLAIN"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Batching of the peers that batch: the sizes and waits of their documentation's examples are for GPUs; on this machine
# a longer wait only adds latency, and a larger batch only makes its first picture wait for its last.
MAX_BATCH = 4
BATCH_WAIT_S = 0.002

_Infer = Callable[[Sequence[UInt8Array]], Sequence[Keypoints]]


class PlainSession:
    """A plain export as its users open it: no dimension overridden, a batch goes through whole."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: FloatArray) -> FloatArray:
        """The heatmaps of a batch."""
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)


class Model:
    """Both models and what is around them; `answer` may be called from several threads."""

    def __init__(self) -> None:
        self._settings = load_settings({}, device="cpu", threads=1, pose_runtime="onnxruntime")
        engine = load_engine(self._settings, Metrics())
        self._detector, self._pose = engine.detector, engine.pose
        if plain := os.environ.get(PLAIN):
            self._pose = PoseEstimator(engine.pose.spec, cast(OnnxSession, PlainSession(Path(plain))), decoding=self._settings.decoding)
        self._infer = self._faster()

    def answer(self, pictures: Sequence[bytes]) -> list[bytes]:
        """One JSON body a picture, as Posewire answers; the crops of all pictures go through the pose model together.

        Raises:
            BadPicture, TooLarge: of one of them.
        """
        settings = self._settings
        frames = [decode(data, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels) for data in pictures]
        prepared = [self._detector.prepare(frame) for frame in frames]
        raws = self._detector.infer([p.pixels for p in prepared])
        found = [
            self._detector.finish(raw, p.scale, frame, settings.min_detection_score, settings.max_people)
            for raw, p, frame in zip(raws, prepared, frames, strict=True)
        ]
        boxes = [xyxy_to_xywh(f.boxes_xyxy) for f in found]
        crops = [self._pose.prepare(frame, b) for frame, b in zip(frames, boxes, strict=True)]
        every = [crop for of_picture in crops for crop in of_picture]
        points = iter(self._infer([crop.pixels for crop in every]) if every else ())
        answers = []
        for frame, b, f, of_picture in zip(frames, boxes, found, crops, strict=True):
            people = [
                self._pose.finish(box, float(score), crop, next(points)) for box, score, crop in zip(b, f.scores, of_picture, strict=True)
            ]
            answers.append(self._render(PoseResult(frame.width, frame.height, tuple(sorted(people, key=_score, reverse=True)))))
        return answers

    def _render(self, result: PoseResult) -> bytes:
        body = PoseResponse.model_construct(
            request_id="",
            model=ModelNames(detector=self._detector.spec.name, pose=self._pose.spec.name),
            images=[ImageOut.from_result(result, self._pose.spec.keypoints.names, 0.0)],
        )
        return body.model_dump_json().encode()

    def _faster(self) -> _Infer:
        """The pose model over a batch, whole or crop by crop: what is faster on this machine, so that no peer is made slow."""

        def one_by_one(batch: Sequence[UInt8Array]) -> list[Keypoints]:
            return [self._pose.infer([item])[0] for item in batch]

        shape = (self._pose.spec.input.height, self._pose.spec.input.width, 3)
        blank = [np.zeros(shape, np.uint8)] * MAX_BATCH
        ways: dict[_Infer, list[float]] = {one_by_one: [], self._pose.infer: []}
        for _ in range(10):
            for way, seconds in ways.items():
                started = time.perf_counter()
                way(blank)
                seconds.append(time.perf_counter() - started)
        return min(ways, key=lambda way: float(np.median(ways[way])))


def _score(person: Pose) -> float:
    return person.score
