from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.backends.device import CPU_PROVIDER, CUDA_PROVIDER, cpu_plan, gpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Device
from posewire.errors import ModelError
from posewire.registry.specs import ModelSpec
from posewire.registry.store import ModelStore
from posewire.types import FloatArray, UInt8Array
from tests.backends.machine import Machine

STORE = ModelStore()
SPECS: list[ModelSpec] = [STORE.manifest.default("detector"), STORE.manifest.default("pose")]
PLAN = cpu_plan(1, "a test")

both = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.task)


def session(spec: ModelSpec) -> OnnxSession:
    return OnnxSession(STORE.verified_bytes(spec), spec.name, PLAN)


def inputs(spec: ModelSpec, count: int) -> FloatArray | UInt8Array:
    if spec.input.format == "uint8-nhwc":
        return np.random.default_rng(count).integers(0, 256, (count, spec.input.height, spec.input.width, 3), np.uint8)
    return np.random.default_rng(count).normal(0, 1, (count, 3, spec.input.height, spec.input.width)).astype(np.float32)


@both
@pytest.mark.parametrize("size", [1, 7, 16])
def test_an_item_s_output_does_not_depend_on_its_batch(spec: ModelSpec, size: int) -> None:
    model, items = session(spec), inputs(spec, 16)
    together = model.run(items[:size])
    assert together.dtype == np.float32
    assert len(together) == size
    alone = np.concatenate([model.run(items[i : i + 1]) for i in range(size)])
    assert np.abs(together - alone).max() <= 1e-5 * max(1, np.abs(alone).max())
    assert np.abs(alone[0] - model.run(items[1:2])[0]).max() > 1e-3  # other items, other outputs


@pytest.mark.parametrize("damage", [b"", b"not a model", b"\x00" * 4096])
def test_bytes_that_are_no_model_are_told_in_one_line(damage: bytes) -> None:
    with pytest.raises(ModelError, match=r"^thing cannot be opened: [^\n]+\Z"):
        OnnxSession(damage, "thing", PLAN)


def test_half_a_model_is_told_in_one_line() -> None:
    content = STORE.verified_bytes(SPECS[0])
    with pytest.raises(ModelError, match=r"^thing cannot be opened: [^\n]+\Z"):
        OnnxSession(content[: len(content) // 2], "thing", PLAN)


def test_an_error_without_words_is_told_by_its_type() -> None:
    plan = gpu_plan(Device.CUDA, "a test", memory_bytes=1 << 30, cache=Path())
    with pytest.raises(ModelError, match=r"^thing cannot be opened: MemoryError\Z"):
        OnnxSession(b"", "thing", plan, Machine(CUDA_PROVIDER, error=MemoryError()))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_load_is_told_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    plan = replace(PLAN, providers=(("NoSuchProvider", {}), (CPU_PROVIDER, {})))
    with pytest.raises(ModelError, match="NoSuchProvider"):
        OnnxSession(STORE.verified_bytes(SPECS[0]), "thing", plan)
    assert capsys.readouterr().out == ""  # standard output belongs to the answers of `posewire predict --json`


def test_threads_that_run_at_once_get_their_own_outputs() -> None:
    spec = SPECS[1]
    model = session(spec)
    batches = [inputs(spec, 1 + i % 3) + np.float32(i / 10) for i in range(12)]
    expected = [model.run(batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(model.run, batches))
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@both
def test_with_bound_memory_the_outputs_are_the_same(spec: ModelSpec) -> None:
    plan = gpu_plan(Device.CUDA, "a test", memory_bytes=1 << 30, cache=Path())
    bound = OnnxSession(STORE.verified_bytes(spec), spec.name, plan, Machine(CUDA_PROVIDER, CPU_PROVIDER))
    assert bound.provider == CUDA_PROVIDER
    for count in (1, 3):
        batch = inputs(spec, count)
        np.testing.assert_allclose(bound.run(batch), session(spec).run(batch), rtol=1e-5, atol=1e-6)


@both
def test_sizes_that_are_opened_are_run_as_wholes_with_the_same_outputs(spec: ModelSpec) -> None:
    model, items = session(spec), inputs(spec, 16)
    pieces = model.run(items)
    assert all(model.open_size(size) for size in (2, 4, 8))
    for count in (1, 2, 3, 5, 8, 9, 16):
        np.testing.assert_allclose(model.run(items[:count]), pieces[:count], rtol=1e-3, atol=1e-4 * np.abs(pieces).max())
    for size in (2, 4, 8):
        model.close_size(size)
    np.testing.assert_array_equal(model.run(items[:5]), pieces[:5])


def test_only_open_sizes_are_run_on_a_device_that_takes_any() -> None:
    spec = SPECS[1]
    machine = Sizes(CUDA_PROVIDER, CPU_PROVIDER)
    model = OnnxSession(STORE.verified_bytes(spec), spec.name, gpu_plan(Device.CUDA, "a test", memory_bytes=1 << 30, cache=Path()), machine)
    model.open_size(2)
    model.open_size(4)
    for count, sizes in ((1, [1]), (2, [2]), (3, [4]), (4, [4]), (6, [4, 2]), (11, [4, 4, 4])):
        machine.ran.clear()
        assert len(model.run(inputs(spec, count))) == count
        assert machine.ran == sizes, count
        assert model.padding(count) == sum(sizes) - count


class Sizes(Machine):
    """Notes the size of every run."""

    def __init__(self, *available: str) -> None:
        super().__init__(*available)
        self.ran: list[int] = []

    def InferenceSession(self, model: bytes, /, **options: Any) -> Any:  # noqa: N802
        session = super().InferenceSession(model, **options)
        run = session.run_with_iobinding

        def noted(binding: Any) -> None:
            run(binding)
            self.ran.append(binding.get_outputs()[0].shape()[0])

        session.run_with_iobinding = noted
        return session
