"""Whether Posewire's kernels run the pose model, or ONNX Runtime."""

import logging

from posewire.backends.cpu_kernels import folded, network
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.backends.device import DevicePlan
from posewire.config import Device, ModelRuntime, Settings
from posewire.errors import DeviceError, ModelError
from posewire.registry.specs import HeatmapOutput, PoseSpec
from posewire.registry.store import ModelStore

log = logging.getLogger(__name__)


class _Unfit(Exception):
    """Why the kernels cannot run a model."""


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
    if settings.pose_runtime is ModelRuntime.ONNXRUNTIME:
        return None
    try:
        return _opened(spec, store, plan)
    except _Unfit as reason:
        if settings.pose_runtime is ModelRuntime.KERNELS:
            raise DeviceError(f"POSEWIRE_POSE_RUNTIME=kernels: {reason}; set it to auto to run without them") from None
        log.info("the pose model runs on ONNX Runtime", extra={"reason": str(reason)})
        return None


def _opened(spec: PoseSpec, store: ModelStore, plan: DevicePlan) -> KernelSession:
    if plan.device is not Device.CPU:
        raise _Unfit(f"Posewire's kernels are for a CPU, not for {plan.device}")
    if spec.kernels is None:
        raise _Unfit(f"the manifest names no kernel weights of {spec.name}")
    if spec.input.colour != "RGB" or not isinstance(spec.output, HeatmapOutput):
        raise _Unfit(f"{spec.name} takes {spec.input.colour} and gives {spec.output.layout}, Posewire's kernels RGB and heatmaps")
    weights = folded.read(store.verified_bytes(spec, spec.kernels), spec.name)
    try:
        return KernelSession(network.plan(weights, spec.input.height, spec.input.width, spec.input.mean, spec.input.std))
    except ModelError as error:
        raise _Unfit(str(error)) from None
