"""The pipeline without the service: no HTTP, no event loop, no queues. The limit of what a core can do."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import cv2

from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.imaging.decode import decode
from posewire.imaging.geometry import xyxy_to_xywh
from posewire.telemetry.metrics import Metrics
from posewire.types import Pose


class BarePipeline:
    """The service's own models and functions on one thread, called one after the other."""

    def __init__(self) -> None:
        settings = load_settings({}, device="cpu", threads=1)
        engine = load_engine(settings, Metrics())
        self._detector, self._pose, self._settings = engine.detector, engine.pose, settings

    def run(self, data: bytes) -> list[Pose]:
        """Everyone in an encoded picture, with the service's defaults."""
        settings = self._settings
        frame = decode(data, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        prepared = self._detector.prepare(frame)
        [raw] = self._detector.infer([prepared.pixels])
        found = self._detector.finish(raw, prepared.scale, frame, settings.min_detection_score, settings.max_people)
        boxes = xyxy_to_xywh(found.boxes_xyxy)
        crops = self._pose.prepare(frame, boxes)
        keypoints = [self._pose.infer([crop.pixels])[0] for crop in crops]
        return [
            self._pose.finish(box, float(score), crop, points)
            for box, score, crop, points in zip(boxes, found.scores, crops, keypoints, strict=True)
        ]


def _work(orders: Connection, pictures: Sequence[bytes]) -> None:
    """A core's process: for every order of some seconds, answer with the pictures that were done and the seconds it took."""
    cv2.setNumThreads(1)
    pipeline = BarePipeline()
    for picture in pictures:
        pipeline.run(picture)
    orders.send("ready")
    while (seconds := orders.recv()) is not None:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            pipeline.run(pictures[done % len(pictures)])
            done += 1
        orders.send((done, time.perf_counter() - started))


class BareCores:
    """One process a core, idle between orders."""

    def __init__(self, workers: Sequence[Connection]) -> None:
        self._workers = workers

    def rate(self, seconds: float) -> float:
        """Pictures a second of all cores together, measured for `seconds`."""
        for worker in self._workers:
            worker.send(seconds)
        return float(sum(done / took for done, took in (worker.recv() for worker in self._workers)))


@contextmanager
def bare_cores(cores: int, pictures: Sequence[bytes]) -> Iterator[BareCores]:
    """Start the processes, warm them, and end them afterwards."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        ends = []
        for _ in range(cores):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, pictures), daemon=True)
            process.start()
            theirs.close()  # so that recv raises EOFError where the process has died
            stack.callback(process.join, 10)
            stack.callback(ours.send, None)
            ends.append(ours)
        for end in ends:
            end.recv()
        yield BareCores(ends)
