"""What runs the pose model: Posewire's kernels or ONNX Runtime."""

import logging

import onnxruntime

from posewire.config import Device, PoseRuntime, Settings
from posewire.errors import DeviceError, ModelError
from posewire.inference.device import DevicePlan, Runtime
from posewire.inference.session import OnnxSession
from posewire.kernels.folded import read
from posewire.kernels.session import KernelSession
from posewire.models.specs import PoseSpec
from posewire.models.store import ModelStore

log = logging.getLogger(__name__)


def open_pose(
    spec: PoseSpec, store: ModelStore, model: bytes, plan: DevicePlan, settings: Settings, runtime: Runtime = onnxruntime
) -> OnnxSession | KernelSession:
    """Open the pose model on what the settings ask for.

    Args:
        spec: of the model.
        store: where its weights are.
        model: its ONNX file.
        plan: the device.
        settings: `pose_runtime`.
        runtime: ONNX Runtime.

    Raises:
        ModelError: the model's files are missing or damaged, or it cannot be opened.
        DeviceError: the kernels were asked for by name and cannot run it; says why.
    """
    if settings.pose_runtime is not PoseRuntime.ONNXRUNTIME:
        try:
            session = _on_kernels(spec, store, plan)
        except _Unfit as reason:
            if settings.pose_runtime is PoseRuntime.KERNELS:
                raise DeviceError(f"POSEWIRE_POSE_RUNTIME=kernels: {reason}; set it to auto to run without them") from None
            log.info("the pose model runs on ONNX Runtime", extra={"reason": str(reason)})
        else:
            return session
    return OnnxSession(model, spec.name, plan, runtime)


class _Unfit(Exception):
    """Why the kernels cannot run a model."""


def _on_kernels(spec: PoseSpec, store: ModelStore, plan: DevicePlan) -> KernelSession:
    if plan.device is not Device.CPU:
        raise _Unfit(f"Posewire's kernels are for a CPU, not for {plan.device}")
    if spec.kernels is None:
        raise _Unfit(f"the manifest names no kernel weights of {spec.name}")
    if spec.input.colour != "RGB":
        raise _Unfit(f"{spec.name} takes {spec.input.colour}, Posewire's kernels RGB")
    weights = read(store.verified_kernels(spec) or b"", spec.name)
    try:
        return KernelSession(weights, spec.input.height, spec.input.width, spec.input.mean, spec.input.std)
    except ModelError as error:
        raise _Unfit(str(error)) from None
