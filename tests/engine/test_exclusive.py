"""An image that is alone may take more than one core; others never do."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from posewire.backends.device import cpu_plan, gpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Device, load_settings
from posewire.engine.engine import Engine
from posewire.engine.profiler import exclusive_pays, warm_exclusive
from posewire.errors import BadPicture
from posewire.imaging.decode import decode
from posewire.pipeline.detector import Detector
from posewire.registry.store import default_root, open_store
from posewire.telemetry.metrics import Metrics
from posewire.types import FloatArray, UInt8Array

ROW = 8  # images, one after the other, until one is taken to be alone


def detector(threads: int) -> Detector:
    manifest = open_store(load_settings({})).manifest
    spec = manifest.default("detector")
    plan = cpu_plan(1, "a test", threads)
    return Detector(spec, OnnxSession((default_root() / spec.file).read_bytes(), spec.name, plan))


def test_alone_the_detector_finds_the_same(astronaut: bytes) -> None:
    model = detector(1)
    if not warm_exclusive(model):
        pytest.skip("one core")
    image = model.preprocess(decode(astronaut, max_bytes=1_000_000, max_pixels=1_000_000)).pixels
    [one] = model.infer([image])
    [other] = model.infer([image], exclusive=True)
    assert np.allclose(one, other, atol=1e-4)
    exclusive_pays(model)  # whether it does depends on the machine; the sessions work on
    assert len(model.infer([image, image], exclusive=True)) == 2


def test_threads_that_were_asked_for_are_not_doubled() -> None:
    assert not warm_exclusive(detector(2))
    assert gpu_plan(Device.CUDA, "a test", memory_bytes=1, cache=default_root()).exclusive_threads == 1


class Watched(Detector):
    """Notes which runs were told to be alone."""

    def __init__(self, model: Detector) -> None:
        super().__init__(model.spec, model.session)
        self.alone: list[bool] = []

    def infer(self, batch: Sequence[UInt8Array], *, exclusive: bool = False) -> list[FloatArray]:
        self.alone.append(exclusive)
        return super().infer(batch, exclusive=exclusive)


async def test_the_engine_tells_a_lone_image_where_it_pays(models: Engine, astronaut: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(models.detector)
    engine = Engine(watched, models.pose, cpu_plan(1, "a test"), load_settings({}, max_batch=1), Metrics())
    monkeypatch.setattr("posewire.engine.cpu_scheduler.exclusive_pays", lambda _: True)
    await engine.start()
    watched.alone.clear()
    options = engine.settings.pose_options()
    for _ in range(ROW + 2):
        await engine.estimate(astronaut, options)
    assert watched.alone == [False] * ROW + [True] * 2
    watched.alone.clear()
    await asyncio.gather(*(engine.estimate(astronaut, options) for _ in range(4)))
    assert watched.alone.count(True) <= 1
    watched.alone.clear()
    for _ in range(ROW):  # those that met others start the count anew
        await engine.estimate(astronaut, options)
    assert watched.alone == [False] * ROW
    with pytest.raises(BadPicture):
        await engine.estimate(b"no image", options)
    watched.alone.clear()
    await engine.estimate(astronaut, options)
    assert watched.alone == [True]  # one that fails is gone too
    await engine.close()
