"""The images that are sent, and the faults that are injected."""

import pickle
from pathlib import Path

import pytest

from loadtests import sample_images
from loadtests.faults import FaultyRuntime, InjectedFaultError
from posewire.config import load_settings
from posewire.engine.engine import Engine, load_engine
from posewire.errors import BadPicture
from posewire.imaging.decode import decode
from posewire.telemetry.metrics import Metrics


@pytest.mark.parametrize("people", sample_images.PEOPLE)
def test_a_crowd_has_room_for_everyone(people: int, models: Engine) -> None:
    frame = decode(sample_images.crowd(people), max_bytes=10**7, max_pixels=10**7)
    assert (frame.width, frame.height) == (1280, 960)
    prepared = models.detector.preprocess(frame)
    [raw] = models.detector.infer([prepared.pixels])
    found = models.detector.postprocess(raw, prepared.scale, frame, sample_images.CROWD_SCORE, people)
    assert len(found.scores) == people


def test_corrupt_images_are_corrupt() -> None:
    for data in sample_images.corrupt():
        with pytest.raises(BadPicture):
            decode(data, max_bytes=10**7, max_pixels=10**7)


def test_mixed_images_are_images() -> None:
    sizes = {(frame.width, frame.height) for frame in (decode(d, max_bytes=10**7, max_pixels=10**7) for d in sample_images.mixed())}
    assert {(256, 256), (2048, 2048), (1280, 960)} <= sizes


def test_faults_come_through_the_engines_own_door_and_only_when_armed(tmp_path: Path) -> None:
    runtime = pickle.loads(pickle.dumps(FaultyRuntime(1.0, tmp_path / "armed")))  # as the service's processes get it
    engine = load_engine(load_settings({}, device="cpu"), Metrics(), runtime)
    blank = decode(sample_images.single(), max_bytes=10**7, max_pixels=10**7)
    prepared = engine.detector.preprocess(blank)
    assert len(engine.detector.infer([prepared.pixels])) == 1
    (tmp_path / "armed").touch()
    with pytest.raises(InjectedFaultError):
        engine.detector.infer([prepared.pixels])
