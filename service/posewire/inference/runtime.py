"""Which of a model's files is served here: that for Posewire's kernels, or that for ONNX Runtime, in float32 or INT8."""

import logging
from collections.abc import Callable

from posewire.config import Device, ModelRuntime, Precision, Settings
from posewire.errors import DeviceError, ModelError
from posewire.inference.cpu import multiplies_bytes_exactly
from posewire.inference.device import DevicePlan
from posewire.kernels import detection, folded, network, quantized
from posewire.kernels.program import Program
from posewire.kernels.session import KernelSession
from posewire.models.specs import DetectorSpec, HeatmapOutput, PoseSpec, Task, WeightsFile
from posewire.models.store import ModelStore

log = logging.getLogger(__name__)


class _Unfit(Exception):
    """Why a file cannot be served here."""


def pose_kernels(spec: PoseSpec, store: ModelStore, plan: DevicePlan, settings: Settings) -> KernelSession | None:
    """The pose model on the kernels; None: ONNX Runtime has to run it, and the log says why.

    Args:
        spec: of the model.
        store: where its weights are.
        plan: the device.
        settings: `pose_runtime`.

    Raises:
        ModelError: the kernels' weights are missing or damaged.
        DeviceError: the kernels were asked for by name and cannot run it; says why.
    """
    return _chosen("pose", settings.pose_runtime, lambda: _pose_kernels(spec, store, plan))


def detector_kernels(spec: DetectorSpec, store: ModelStore, plan: DevicePlan, settings: Settings) -> KernelSession | None:
    """The detector on the kernels, in INT8; None: ONNX Runtime has to run it, and the log says why.

    Args:
        spec: of the detector.
        store: where its weights are.
        plan: the device.
        settings: `detector_runtime` and `detector_precision`.

    Raises:
        ModelError: the kernels' weights are missing or damaged.
        DeviceError: the kernels were asked for by name and cannot run it; says why.
    """
    return _chosen("detector", settings.detector_runtime, lambda: _detector_kernels(spec, store, plan, settings.detector_precision))


def detector_weights(spec: DetectorSpec, plan: DevicePlan, settings: Settings) -> WeightsFile:
    """The file of the detector that ONNX Runtime serves: INT8 where that fits, else float32, and the log says why.

    What decides is the processor and not a measurement, so that all processes of a service and all machines of a kind give the
    same boxes.

    Args:
        spec: of the detector.
        plan: the device.
        settings: `detector_precision`.

    Raises:
        DeviceError: INT8 was asked for by name and does not fit; says why.
    """
    if settings.detector_precision is Precision.FLOAT32:
        return spec
    try:
        return _int8(spec, plan)
    except _Unfit as reason:
        if settings.detector_precision is Precision.INT8:
            raise DeviceError(f"POSEWIRE_DETECTOR_PRECISION=int8: {reason}; set it to auto to run in float32") from None
        log.info("the detector runs in float32", extra={"reason": str(reason)})
        return spec


def _int8(spec: DetectorSpec, plan: DevicePlan) -> WeightsFile:
    if plan.device is not Device.CPU:
        raise _Unfit(f"INT8 is for a CPU, not for {plan.device}")
    if spec.int8 is None:
        raise _Unfit(f"the manifest names no INT8 file of {spec.name}")
    if not multiplies_bytes_exactly():
        raise _Unfit("this processor has no VNNI (avx512_vnni or avx_vnni), without which INT8 is neither exact nor faster")
    return spec.int8


def _chosen(task: Task, runtime: ModelRuntime, opened: Callable[[], KernelSession]) -> KernelSession | None:
    if runtime is ModelRuntime.ONNXRUNTIME:
        return None
    try:
        return opened()
    except _Unfit as reason:
        if runtime is ModelRuntime.KERNELS:
            raise DeviceError(f"POSEWIRE_{task.upper()}_RUNTIME=kernels: {reason}; set it to auto to run without them") from None
        log.info("the %s model runs on ONNX Runtime", task, extra={"reason": str(reason)})
        return None


def _pose_kernels(spec: PoseSpec, store: ModelStore, plan: DevicePlan) -> KernelSession:
    file = _kernels_file(spec, plan)
    if spec.input.colour != "RGB" or not isinstance(spec.output, HeatmapOutput):
        raise _Unfit(f"{spec.name} takes {spec.input.colour} and gives {spec.output.layout}, Posewire's kernels RGB and heatmaps")
    weights = folded.read(store.verified_bytes(spec, file), spec.name)
    return _fitting(plan, lambda: network.plan(weights, spec.input.height, spec.input.width, spec.input.mean, spec.input.std))


def _detector_kernels(spec: DetectorSpec, store: ModelStore, plan: DevicePlan, precision: Precision) -> KernelSession:
    file = _kernels_file(spec, plan)
    if precision is Precision.FLOAT32:
        raise _Unfit("Posewire's kernels run a detector in INT8, and POSEWIRE_DETECTOR_PRECISION is float32")
    if spec.output.layout != "boxes_scores":
        raise _Unfit(f"{spec.name} gives {spec.output.layout}, Posewire's kernels boxes_scores")
    weights = quantized.read(store.verified_bytes(spec, file), spec.name)
    size = spec.input.height, spec.input.width
    return _fitting(plan, lambda: detection.plan(weights, *size, spec.input.mean, spec.input.std, spec.input.colour))


def _kernels_file(spec: PoseSpec | DetectorSpec, plan: DevicePlan) -> WeightsFile:
    if plan.device is not Device.CPU:
        raise _Unfit(f"Posewire's kernels are for a CPU, not for {plan.device}")
    if spec.kernels is None:
        raise _Unfit(f"the manifest names no kernel weights of {spec.name}")
    return spec.kernels


def _fitting(plan: DevicePlan, program: Callable[[], Program]) -> KernelSession:
    try:
        return KernelSession(program(), alone_threads=plan.alone_threads)
    except ModelError as error:
        raise _Unfit(str(error)) from None
