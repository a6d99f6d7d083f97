"""Sessions over the real models: identities, failures in the middle, other sizes."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from posewire.engine.engine import Engine
from posewire.engine.video_session import PoseSession
from posewire.errors import DeadlineExceeded, InferenceFailed
from posewire.pipeline.tracking.matching import box_iou
from posewire.types import Frame, PoseOptions, UInt8Array
from tests.conftest import MakeEngine
from tests.server.support import Gate, GatedPose
from tests.videos import walk

OPTIONS = PoseOptions(0.5, 10)


@pytest.fixture
async def engine(make_engine: MakeEngine) -> AsyncIterator[Engine]:
    engine = make_engine()
    await engine.start()
    yield engine
    await engine.close()


def frames(count: int = 8) -> list[Frame]:
    return [Frame(pixels) for pixels in walk(count)]


async def test_one_person_keeps_one_identity_and_the_detector_rests(engine: Engine) -> None:
    session = PoseSession(engine, OPTIONS)
    results = [await session.step(frame, i / 10) for i, frame in enumerate(frames())]
    assert [[p.track_id for p in r.people] for r in results] == [[1]] * 8
    assert sum(r.timings.detect > 0 for r in results) <= 4
    assert all(r.timings.total > 0 for r in results)
    assert results[0].people[0].keypoints.xy.shape == (17, 2)


async def test_the_first_frame_is_as_an_image_of_its_own(engine: Engine) -> None:
    [tracked] = (await PoseSession(engine, OPTIONS).step(frames(1)[0], 0.0)).people
    [alone] = (await engine.estimate_frame(frames(1)[0], OPTIONS)).people
    assert tracked.keypoints.xy == pytest.approx(alone.keypoints.xy, abs=1e-3)
    assert tracked.box_xywh == pytest.approx(alone.box_xywh, abs=1e-3)
    assert tracked.score == pytest.approx(alone.score, abs=1e-5)


async def test_without_tracking_every_frame_stands_alone(engine: Engine) -> None:
    session = PoseSession(engine, OPTIONS, track=False)
    results = [await session.step(frame, i / 10) for i, frame in enumerate(frames(3))]
    assert [[p.track_id for p in r.people] for r in results] == [[None]] * 3
    assert all(r.timings.detect > 0 for r in results)


async def test_nobody_costs_no_pose(engine: Engine) -> None:
    empty: UInt8Array = np.full((240, 320, 3), 128, np.uint8)
    session = PoseSession(engine, OPTIONS)
    assert [(await session.step(Frame(empty), i / 10)).people for i in range(3)] == [()] * 3


async def test_another_size_starts_anew(engine: Engine) -> None:
    session = PoseSession(engine, OPTIONS)
    await session.step(frames(1)[0], 0.0)
    result = await session.step(Frame(walk(1, size=480)[0]), 0.1)
    assert (result.width, result.height) == (480, 480)
    assert result.timings.detect > 0
    assert len(result.people) == 1


async def test_a_frame_that_fails_has_not_happened(make_engine: MakeEngine, models: Engine) -> None:
    gate = Gate()
    engine = make_engine(pose=GatedPose(models.pose, gate))
    await engine.start()
    try:
        session, film = PoseSession(engine, OPTIONS), frames(4)
        before = await session.step(film[0], 0.0)
        gate.error = RuntimeError("broken")
        with pytest.raises(InferenceFailed):
            await session.step(film[1], 0.1)
        gate.error = None
        with pytest.raises(DeadlineExceeded):
            await session.step(film[2], 0.2, deadline=0.0)
        after = await session.step(film[3], 0.3)
        assert [p.track_id for p in after.people] == [p.track_id for p in before.people] == [1]
    finally:
        await engine.close()


async def test_the_box_of_somebody_who_stands_still_stays_where_it_is(engine: Engine) -> None:
    rng, still = np.random.default_rng(0), walk(1, size=512)[0].astype(np.int16)
    film = [Frame(np.asarray((still + rng.integers(-2, 3, still.shape)).clip(0, 255), np.uint8)) for _ in range(26)]  # a camera's noise
    session = PoseSession(engine, OPTIONS)
    results = [await session.step(frame, i / 10) for i, frame in enumerate(film)]
    boxes = np.array([person.box_xywh for result in results for person in result.people])
    assert boxes.shape == (26, 4)
    assert 0 < sum(r.timings.detect > 0 for r in results) < 13  # most boxes are predictions
    edges = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    assert np.ptp(edges, axis=0).max() < 1.5, np.ptp(edges, axis=0)


async def test_the_box_of_somebody_who_moves_and_comes_nearer_follows(engine: Engine) -> None:
    session = PoseSession(engine, OPTIONS, detect_every=100)
    detector = PoseSession(engine, OPTIONS, track=False)
    overlaps = []
    for i in range(12):
        size = 320 + 8 * i
        frame = np.zeros((480, 640, 3), np.uint8)
        person = walk(1, size=size)[0]
        frame[20 : 20 + size, 40 + 10 * i : 40 + 10 * i + size] = person[:460, : 600 - 10 * i]
        [followed] = (await session.step(Frame(frame), i / 10)).people
        [found] = (await detector.step(Frame(frame), i / 10)).people
        overlaps.append(float(box_iou(followed.box_xywh[None], found.box_xywh[None])[0, 0]))
    assert min(overlaps) > 0.8, overlaps
