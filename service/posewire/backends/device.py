"""The device that the models run on: chosen once, with the reason.

`auto` takes CUDA where a session really runs on it, else the CPU. A device that was asked for by name and does not load is an
error; there is no silent fall-back (microsoft/onnxruntime #23372).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from posewire.backends.cpu_limit import cpu_limit
from posewire.config import Device
from posewire.errors import DeviceError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"

# Threads of a run that has the machine to itself. More threads have not been measured.
_EXCLUSIVE_THREADS = 2

Provider = tuple[str, Mapping[str, str]]


class Runtime(Protocol):
    """The part of ONNX Runtime that is used: its module, or a stand-in for another machine."""

    def get_available_providers(self) -> Sequence[str]:
        """Return the names of the execution providers of this build."""

    def InferenceSession(self, model: bytes, /, **options: Any) -> Any:  # noqa: N802 - ONNX Runtime's name
        """Open a model."""


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """How models are opened and run on the device that was chosen."""

    device: Device  # never AUTO
    providers: tuple[Provider, ...]  # in ONNX Runtime's order of preference
    reason: str  # why this device, for people
    workers: int  # model runs side by side
    intra_op_threads: int  # of one model run on the CPU
    fixed_sizes: bool  # a session for each batch size
    exclusive_threads: int = 1  # of a model run on the CPU while nothing else runs


def cpu_plan(workers: int, reason: str, intra_op_threads: int = 1) -> DevicePlan:
    """Return the plan of a CPU: `workers` runs side by side, each on `intra_op_threads` threads.

    Each batch size has a session of its own, because ONNX Runtime uses its blocked layout throughout only where the batch is fixed.
    """
    exclusive_threads = max(intra_op_threads, min(_EXCLUSIVE_THREADS, cpu_limit()))
    return DevicePlan(
        Device.CPU, ((CPU_PROVIDER, {}),), reason, workers, intra_op_threads, fixed_sizes=True, exclusive_threads=exclusive_threads
    )


def gpu_plan(device: Device, reason: str, *, memory_bytes: int, cache: Path) -> DevicePlan:
    """Return the plan of a GPU: one run of each model at a time, so that copies of one overlap with the compute of the other.

    One session takes every batch size, because each session holds memory of its own. HEURISTIC replaces cuDNN's exhaustive search,
    which costs seconds at the first run of every new shape (microsoft/onnxruntime #19838). The arena grows by what is asked for, and
    is limited: else memory grows with every batch size (onnx/onnx #5107). TensorRT keeps its engines on disk: else every start
    compiles them again.
    """
    cuda = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(memory_bytes),
        "do_copy_in_default_stream": "1",
    }
    providers: list[Provider] = [(CUDA_PROVIDER, cuda), (CPU_PROVIDER, {})]
    if device is Device.TENSORRT:
        tensorrt = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
            "trt_max_workspace_size": str(memory_bytes),
        }
        providers.insert(0, (TENSORRT_PROVIDER, tensorrt))
    return DevicePlan(device, tuple(providers), reason, workers=2, intra_op_threads=1, fixed_sizes=False)


def choose_device(
    requested: Device,
    runtime: Runtime,
    opens: Callable[[DevicePlan], str],
    *,
    workers: int,
    intra_op_threads: int = 1,
    memory_bytes: int,
    cache: Path,
) -> DevicePlan:
    """Choose the device.

    Args:
        requested: by the operator.
        runtime: ONNX Runtime.
        opens: opens and runs a model by a plan, and returns the provider that it really runs on.
        workers: runs side by side on a CPU.
        intra_op_threads: of each of them.
        memory_bytes: the most that one model may take on a GPU.
        cache: folder for TensorRT's engines.

    Raises:
        DeviceError: the device was asked for by name and does not load; says what is missing.
    """
    if requested is Device.CPU:
        return cpu_plan(workers, "asked for", intra_op_threads)
    if requested is Device.AUTO:
        plan = gpu_plan(Device.CUDA, "CUDA loads", memory_bytes=memory_bytes, cache=cache)
        missing = _missing(plan, runtime, opens)
        return cpu_plan(workers, f"CUDA is not in use: {missing}", intra_op_threads) if missing else plan
    plan = gpu_plan(requested, "asked for", memory_bytes=memory_bytes, cache=cache)
    if missing := _missing(plan, runtime, opens):
        raise DeviceError(f"POSEWIRE_DEVICE={requested}: {missing}; set POSEWIRE_DEVICE=auto or cpu to run without it")
    return plan


def fell_back(requested: Device, plan: DevicePlan, runtime: Runtime) -> bool:
    """Return True where `auto` took the CPU although this ONNX Runtime has CUDA."""
    return requested is Device.AUTO and plan.device is Device.CPU and CUDA_PROVIDER in runtime.get_available_providers()


def _missing(plan: DevicePlan, runtime: Runtime, opens: Callable[[DevicePlan], str]) -> str | None:
    """Return why the plan's first provider does not run; None: it runs."""
    wanted = plan.providers[0][0]
    if wanted not in runtime.get_available_providers():
        return f"this ONNX Runtime has no {wanted} (it comes with the package onnxruntime-gpu in place of onnxruntime)"
    try:
        active = opens(plan)
    except Exception as error:  # ONNX Runtime raises many types, and each means the same here
        return f"{wanted} does not load: {(str(error) or type(error).__name__).splitlines()[0]}"
    if active != wanted:
        return f"{wanted} does not load (is there a GPU, its driver, and CUDA and cuDNN of the right version?): ONNX Runtime took {active}"
    return None
