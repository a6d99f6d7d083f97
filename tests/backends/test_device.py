from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from posewire.backends.device import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, DevicePlan, choose_device
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Device, load_settings
from posewire.engine.engine import load_engine
from posewire.errors import DeviceError
from posewire.registry.store import ModelStore
from posewire.telemetry.metrics import Metrics
from tests.backends.machine import Machine

CPU, CUDA, TENSORRT = CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER
NO_CUDNN = RuntimeError("libcudnn.so.9: cannot open shared object file\nRequire cuDNN 9.* and CUDA 12.*")


@pytest.fixture(scope="module")
def model() -> bytes:
    store = ModelStore()
    return store.verified_bytes(store.manifest.default("detector"))


Choose = Callable[[Device, Machine], DevicePlan]


@pytest.fixture
def choose(model: bytes) -> Choose:
    def call(device: Device, machine: Machine) -> DevicePlan:
        return choose_device(
            device,
            machine,
            lambda plan: OnnxSession(model, "m", plan, machine).provider,
            workers=3,
            memory_bytes=5 << 20,
            cache=Path("/some/cache"),
        )

    return call


def is_cpu(plan: DevicePlan) -> bool:
    return plan.device is Device.CPU and [name for name, _ in plan.providers] == [CPU] and plan.workers == 3


@pytest.mark.parametrize(
    ("machine", "missing"),
    [
        (Machine(CPU), CUDA),
        (Machine(TENSORRT, CPU), CUDA),
        (Machine(CUDA, CPU, error=NO_CUDNN), "libcudnn.so.9"),
        (Machine(CUDA, CPU, error=MemoryError()), "MemoryError"),
        (Machine(CUDA, CPU, active=[CPU]), f"took {CPU}"),  # ONNX Runtime's silent fall-back
    ],
)
def test_auto_takes_the_cpu_where_cuda_does_not_load_and_says_why(choose: Choose, machine: Machine, missing: str) -> None:
    plan = choose(Device.AUTO, machine)
    assert is_cpu(plan)
    assert missing in plan.reason
    assert "\n" not in plan.reason


def test_auto_takes_cuda_where_it_loads(choose: Choose) -> None:
    plan = choose(Device.AUTO, Machine(TENSORRT, CUDA, CPU))
    assert plan.device is Device.CUDA
    assert [name for name, _ in plan.providers] == [CUDA, CPU]
    assert plan.workers == 2  # a run of each model


@pytest.mark.parametrize(
    ("device", "machine", "missing"),
    [
        (Device.CUDA, Machine(CPU), CUDA),
        (Device.CUDA, Machine(CUDA, CPU, error=NO_CUDNN), "libcudnn.so.9"),
        (Device.CUDA, Machine(CUDA, CPU, error=MemoryError()), "MemoryError"),
        (Device.CUDA, Machine(CUDA, CPU, active=[CPU]), f"took {CPU}"),
        (Device.TENSORRT, Machine(CPU), TENSORRT),
        (Device.TENSORRT, Machine(CUDA, CPU), TENSORRT),
        (Device.TENSORRT, Machine(TENSORRT, CUDA, CPU, error=RuntimeError("libnvinfer.so.10: not found")), "libnvinfer.so.10"),
        (Device.TENSORRT, Machine(TENSORRT, CUDA, CPU, active=[CUDA, CPU]), f"took {CUDA}"),
        (Device.TENSORRT, Machine(TENSORRT, CUDA, CPU, active=[CPU]), f"took {CPU}"),
    ],
)
def test_a_device_asked_for_by_name_is_never_replaced(choose: Choose, device: Device, machine: Machine, missing: str) -> None:
    with pytest.raises(DeviceError) as refused:
        choose(device, machine)
    message = str(refused.value)
    assert f"POSEWIRE_DEVICE={device.value}" in message
    assert missing in message
    assert "\n" not in message


@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_a_device_asked_for_by_name_is_taken_where_it_loads(choose: Choose, device: Device) -> None:
    assert choose(device, Machine(TENSORRT, CUDA, CPU)).device is device


def test_an_error_without_words_is_told_by_its_type() -> None:
    def opens(_: DevicePlan) -> str:
        raise MemoryError

    plan = choose_device(Device.AUTO, Machine(CUDA), opens, workers=1, memory_bytes=1, cache=Path())
    assert "MemoryError" in plan.reason


def test_the_cpu_needs_nothing_of_the_runtime(choose: Choose) -> None:
    machine = Machine(CUDA, CPU)
    assert is_cpu(choose(Device.CPU, machine))
    assert machine.opened == []


@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_memory_and_search_are_bounded_in_the_session_itself(choose: Choose, device: Device) -> None:
    machine = Machine(TENSORRT, CUDA, CPU)
    choose(device, machine)
    [opened] = machine.opened
    assert list(opened) == ([TENSORRT] if device is Device.TENSORRT else []) + [CUDA, CPU]
    assert opened[CUDA].items() >= {
        ("cudnn_conv_algo_search", "HEURISTIC"),
        ("arena_extend_strategy", "kSameAsRequested"),
        ("gpu_mem_limit", str(5 << 20)),
    }
    assert opened[CPU] == {}


def test_tensorrt_keeps_its_engines_in_the_cache(choose: Choose) -> None:
    machine = Machine(TENSORRT, CUDA, CPU)
    choose(Device.TENSORRT, machine)
    assert machine.opened[0][TENSORRT].items() >= {
        ("trt_engine_cache_enable", "1"),
        ("trt_engine_cache_path", "/some/cache"),
        ("trt_max_workspace_size", str(5 << 20)),
    }


without_cuda = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this ONNX Runtime carries CUDA")


@without_cuda
@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_the_service_refuses_to_start_without_the_gpu_that_was_asked_for(device: Device) -> None:
    with pytest.raises(DeviceError, match=f"POSEWIRE_DEVICE={device.value}: this ONNX Runtime has no"):
        load_engine(load_settings({}, device=device), Metrics())


@without_cuda
def test_the_service_starts_on_the_cpu_by_itself() -> None:
    engine = load_engine(load_settings({}, threads=2), Metrics())
    assert engine.plan.device is Device.CPU
    assert engine.plan.workers == 2
    assert CUDA in engine.plan.reason
    assert engine.detector.session.provider == CPU
    assert engine.pose.session.provider == CPU or engine.pose.session.provider.startswith("PosewireKernels")


def test_the_service_opens_both_models_on_cuda_with_the_settings_memory(tmp_path: Path) -> None:
    machine = Machine(CUDA, CPU)
    engine = load_engine(load_settings({}, gpu_memory_mb=300, cache_dir=tmp_path), Metrics(), machine)
    assert {model.provider for model in engine.models} == {CUDA}
    assert {opened[CUDA]["gpu_mem_limit"] for opened in machine.opened} == {str(300 * 1024 * 1024)}
