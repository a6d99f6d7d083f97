"""The backend `kernels`: Lite-HRNet on the CPU kernels."""

from posewire.backends.base import OpenedModel, Unsupported, register_backend
from posewire.backends.cpu_kernels import folded, network
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.backends.device import DevicePlan, Runtime
from posewire.config import Device
from posewire.errors import ModelError
from posewire.registry.specs import ModelSpec, PoseSpec
from posewire.registry.store import ModelStore


@register_backend("kernels")
def open_on_kernels(spec: ModelSpec, store: ModelStore, plan: DevicePlan, _: Runtime) -> OpenedModel:
    """Open a pose model on the kernels.

    Raises:
        Unsupported: the device is not a CPU, or the kernels cannot run the model.
        ModelError: a file of the model is missing or damaged.
    """
    if plan.device is not Device.CPU:
        raise Unsupported(f"Posewire's kernels are for a CPU, not for {plan.device}")
    if not isinstance(spec, PoseSpec):
        raise Unsupported("Posewire's kernels run pose models only")
    if spec.kernels is None:
        raise Unsupported(f"the manifest names no kernel weights of {spec.name}")
    if spec.input.colour != "RGB" or spec.output.layout != "heatmaps":
        raise Unsupported(f"{spec.name} takes {spec.input.colour} and gives {spec.output.layout}, Posewire's kernels RGB and heatmaps")
    store.verified_bytes(spec)  # a damaged store is reported at the start, also where another of its files runs
    weights = folded.read(store.verified_bytes(spec, spec.kernels), spec.name)
    try:
        program = network.plan(weights, spec.input.height, spec.input.width, spec.input.mean, spec.input.std)
        return OpenedModel(KernelSession(program), spec.kernels)
    except ModelError as error:
        raise Unsupported(str(error)) from None
