"""One image from its bytes to its people, on one thread of a worker."""

import time
from dataclasses import replace
from typing import NamedTuple

from posewire.errors import DeadlineExceeded, ServiceError
from posewire.pipeline.pose_pipeline import ImageJob, PartialResult, PosePipeline, Span, inference_failed
from posewire.telemetry.metrics import Task
from posewire.types import Pose


class ModelRun(NamedTuple):
    """One run of a model."""

    task: Task
    size: int  # items
    seconds: float
    worked: bool = True


class ImageRun(NamedTuple):
    """The outcome of one image, and the model runs that it took."""

    outcome: PartialResult | ServiceError
    runs: tuple[ModelRun, ...]


def run_image(pipeline: PosePipeline, job: ImageJob, max_batch: int) -> ImageRun:
    """Run all stages of one image on this thread; errors are returned.

    Args:
        pipeline: the models.
        job: the image.
        max_batch: crops of one run of the pose model.
    """
    started = time.monotonic()
    try:
        [partial] = pipeline.detect_and_crop([job])
    except Exception:
        return ImageRun(
            inference_failed("a run of the detector failed"), (ModelRun("detector", 1, time.monotonic() - started, worked=False),)
        )
    if isinstance(partial, Exception):
        return ImageRun(partial if isinstance(partial, ServiceError) else inference_failed("an image could not be processed"), ())
    runs = [ModelRun("detector", 1, partial.spans["detect"].seconds)] if "detect" in partial.spans else []
    poses: list[Pose] = []
    begun = time.monotonic()
    for at in range(0, len(partial.remaining), max_batch):
        people, started = partial.remaining[at : at + max_batch], time.monotonic()
        if job.deadline is not None and job.deadline <= started:
            return ImageRun(DeadlineExceeded("the deadline passed before the pose model had run"), tuple(runs))
        try:
            keypoints = pipeline.estimate_keypoints([crop.pixels for _, _, crop in people])
        except Exception:
            run = ModelRun("pose", len(people), time.monotonic() - started, worked=False)
            return ImageRun(inference_failed("a run of the pose model failed"), (*runs, run))
        poses += [pipeline.pose.postprocess(*person, found) for person, found in zip(people, keypoints, strict=True)]
        runs.append(ModelRun("pose", len(people), time.monotonic() - started))
    spans = {**partial.spans, "pose": Span(begun, time.monotonic())} if poses else partial.spans
    return ImageRun(replace(partial, poses=tuple(poses), remaining=(), spans=spans), tuple(runs))
