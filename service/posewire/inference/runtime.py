"""Which of a model's files is served here: Posewire's kernels for the pose model, INT8 for the detector."""

import logging

from posewire.config import Device, PoseRuntime, Precision, Settings
from posewire.errors import DeviceError, ModelError
from posewire.inference.cpu import multiplies_bytes_exactly
from posewire.inference.device import DevicePlan
from posewire.kernels.folded import read
from posewire.kernels.session import KernelSession
from posewire.models.specs import DetectorSpec, HeatmapOutput, PoseSpec, WeightsFile
from posewire.models.store import ModelStore

log = logging.getLogger(__name__)


class _Unfit(Exception):
    """Why a file cannot be served here."""


def kernel_session(spec: PoseSpec, store: ModelStore, plan: DevicePlan, settings: Settings) -> KernelSession | None:
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
    if settings.pose_runtime is PoseRuntime.ONNXRUNTIME:
        return None
    try:
        return _opened(spec, store, plan)
    except _Unfit as reason:
        if settings.pose_runtime is PoseRuntime.KERNELS:
            raise DeviceError(f"POSEWIRE_POSE_RUNTIME=kernels: {reason}; set it to auto to run without them") from None
        log.info("the pose model runs on ONNX Runtime", extra={"reason": str(reason)})
        return None


def detector_weights(spec: DetectorSpec, plan: DevicePlan, settings: Settings) -> WeightsFile:
    """The file of the detector that is served: INT8 where that fits, else float32, and the log says why.

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


def _opened(spec: PoseSpec, store: ModelStore, plan: DevicePlan) -> KernelSession:
    if plan.device is not Device.CPU:
        raise _Unfit(f"Posewire's kernels are for a CPU, not for {plan.device}")
    if spec.kernels is None:
        raise _Unfit(f"the manifest names no kernel weights of {spec.name}")
    if spec.input.colour != "RGB" or not isinstance(spec.output, HeatmapOutput):
        raise _Unfit(f"{spec.name} takes {spec.input.colour} and gives {spec.output.layout}, Posewire's kernels RGB and heatmaps")
    weights = read(store.verified_bytes(spec, spec.kernels), spec.name)
    try:
        return KernelSession(weights, spec.input.height, spec.input.width, spec.input.mean, spec.input.std)
    except ModelError as error:
        raise _Unfit(str(error)) from None
