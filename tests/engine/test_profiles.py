"""A start takes what an earlier start measured on this machine; a file that does not fit is ignored."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posewire.config import load_settings
from posewire.engine.cost_model import CostTable
from posewire.engine.engine import Engine, load_engine
from posewire.engine.ipc import AVAILABLE
from posewire.engine.pool import ThreadPool
from posewire.engine.profile_cache import MAX_AGE_S, ProfileCache, identity_of
from posewire.engine.profiler import Profile, restore
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.telemetry.metrics import Metrics

IDENTITY = {"cpu": "of a test", "cores": 2, "models": ["a", "b"]}


def profile(age_s: float = 10.0) -> Profile:
    costs = {"detector": CostTable({1: 0.02}), "pose": CostTable({1: 0.01, 2: 0.015, 4: 0.02}, whole=(2, 4))}
    return Profile(costs, exclusive_pays=True, measured_at=time.time() - age_s)  # type: ignore[arg-type] # the tasks' names


def cache(folder: Path, identity: Mapping[str, Any] = IDENTITY, max_batch: int = 4) -> ProfileCache:
    return ProfileCache(folder, identity, max_batch)


def pipeline_of(models: Engine) -> PosePipeline:
    return PosePipeline(models.detector, models.pose, max_bytes=1_000_000, max_pixels=1_000_000)


@pytest.mark.parametrize("processes", [False, True])
async def test_a_second_start_does_not_measure(tmp_path: Path, processes: bool, astronaut: bytes) -> None:
    if processes and not AVAILABLE:
        pytest.skip("needs Linux's memory files")
    settings = load_settings({}, device="cpu", workers=1, threads=1, max_batch=2, min_detection_score=0.5, cache_dir=tmp_path)
    starts = []
    for _ in range(2):
        engine = load_engine(settings, Metrics(), processes=processes)
        await engine.start()
        starts.append((engine.measured_at, {task: costs.seconds for task, costs in engine.costs.items()}))
        assert len((await engine.estimate(astronaut, settings.pose_options())).people) == 1
        await engine.close()
    assert starts[0] == starts[1]
    assert starts[0][1]["detector"][1] > 0


async def test_an_engine_that_is_not_warmed_answers_and_keeps_nothing(tmp_path: Path, astronaut: bytes) -> None:
    settings = load_settings({}, device="cpu", threads=1, min_detection_score=0.5, cache_dir=tmp_path)
    engine = load_engine(settings, Metrics(), warms=False)
    await engine.start()
    assert engine.ready
    assert engine.costs == {}
    assert len((await engine.estimate(astronaut, settings.pose_options())).people) == 1
    await engine.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - takes microseconds


async def test_the_sizes_of_a_profile_are_open_after_it_is_restored(models: Engine) -> None:
    detector, pose = models.detector, models.pose
    known = Profile({"detector": CostTable({1: 1.0, 4: 2.0}, whole=(4,)), "pose": CostTable({1: 1.0})}, True, time.time())
    pool = ThreadPool(1)
    try:
        restored = await restore(PosePipeline(detector, pose, max_bytes=1, max_pixels=1), pool, known)
        assert restored.costs["detector"].seconds == {1: 1.0, 4: 2.0}
        assert restored.costs["detector"].padding == {3: 1}
        assert restored.measured_at == known.measured_at
    finally:
        detector.session.close_size(4)
        await pool.close()


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    kept = profile()
    cache(tmp_path / "new" / "folder").save(kept)
    found = cache(tmp_path / "new" / "folder").load()
    assert found == kept
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".json"]


def changed(**fields: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(json.loads(content) | fields).encode()


def costs(seconds: Mapping[str, object], whole: object = ()) -> dict[str, object]:
    return {task: {"seconds": seconds, "whole": list(whole) if isinstance(whole, tuple) else whole} for task in ("detector", "pose")}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff\xfe" + content,
        lambda content: content + b" " * 100_000,
        lambda content: b"[" * 50_000,
        changed(identity=IDENTITY | {"cpu": "another"}),
        changed(more=1),
        changed(load=-1.0),
        changed(exclusive_pays="yes"),
        changed(measured_at=float("nan")),
        changed(costs={}),
        changed(costs=costs({"1": 0.01}) | {"tracker": {"seconds": {"1": 0.01}, "whole": []}}),
        changed(costs=costs({})),
        changed(costs=costs({"2": 0.01})),
        changed(costs=costs({"1": 0})),
        changed(costs=costs({"1": -0.01})),
        changed(costs=costs({"1": "0.01"})),
        changed(costs=costs({"1": float("inf")})),
        changed(costs=costs({"1": 0.01, "3": 0.02})),
        changed(costs=costs({"1": 0.01, "8": 0.02})),
        changed(costs=costs({"1": 0.01, "100000000": 0.02})),
        changed(costs=costs({"1": 0.01}, (1,))),
        changed(costs=costs({"1": 0.01}, (1_000_000,))),
        changed(costs=costs({"1": 0.01}, "2")),
    ],
)
def test_a_file_that_does_not_fit_is_ignored_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    own = cache(tmp_path)
    own.save(profile())
    own.path.write_bytes(damage(own.path.read_bytes()))
    assert own.load() is None
    own.save(profile())
    assert own.load() is not None


def test_a_profile_of_a_much_busier_machine_is_measured_again(tmp_path: Path) -> None:
    cache(tmp_path).save(profile())
    path = cache(tmp_path).path
    path.write_bytes(changed(load=1000.0 + 2 * os.getloadavg()[0])(path.read_bytes()))
    assert cache(tmp_path).load() is None
    path.write_bytes(changed(load=0.0)(path.read_bytes()))  # at the most the costs are those of a machine that is free
    assert cache(tmp_path).load() is not None


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 60, -3600.0])
def test_a_profile_that_is_old_or_of_the_future_is_ignored(tmp_path: Path, age_s: float) -> None:
    cache(tmp_path).save(profile(age_s))
    assert cache(tmp_path).load() is None


def test_another_machine_model_or_setting_has_another_file(tmp_path: Path, models: Engine) -> None:
    cache(tmp_path).save(profile())
    assert cache(tmp_path, IDENTITY | {"cores": 3}).load() is None
    assert cache(tmp_path, IDENTITY | {"models": ["a", "c"]}).load() is None
    pipeline = pipeline_of(models)
    identities = [
        identity_of(pipeline, models.plan, load_settings({}, **more), processes=processes)
        for more, processes in (({}, False), ({}, True), ({"max_batch": 3}, False), ({"flip_test": True}, False))
    ]
    assert len({cache(tmp_path, identity).path for identity in identities}) == len(identities)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    own = cache(tmp_path / "file" / "profiles")
    own.save(profile())
    assert own.load() is None


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    own = cache(tmp_path)
    os.mkfifo(own.path)
    assert own.load() is None
