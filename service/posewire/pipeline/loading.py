"""From the settings to a device and to models that are open on it."""

import logging

import numpy as np

from posewire.backends.base import InferenceSession, open_model
from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan, Runtime, choose_device
from posewire.backends.preprocess import Preprocessor
from posewire.backends.runtime import onnx_runtime
from posewire.config import Settings
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.registry.choice import choose
from posewire.registry.specs import ModelSpec
from posewire.registry.store import open_store

log = logging.getLogger(__name__)


def plan_device(settings: Settings, runtime: Runtime | None = None) -> DevicePlan:
    """Choose the device by the settings and by what really loads.

    Args:
        settings: which device, how many workers and threads, how much memory.
        runtime: None: ONNX Runtime.

    Raises:
        ModelError: the pose model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
    """
    runtime = runtime or onnx_runtime()
    store = open_store(settings)
    spec = choose(settings, store.manifest).pose
    plan = choose_device(
        settings.device,
        runtime,
        lambda plan: _first_run(open_model(spec, store, plan, runtime, "onnxruntime").session, spec),
        workers=settings.threads or max(1, cpu_limit() // settings.intra_op_threads),
        intra_op_threads=settings.intra_op_threads,
        memory_bytes=settings.gpu_memory_mb * 1024 * 1024,
        cache=settings.cache_dir,
    )
    log.info("device chosen", extra={"device": plan.device.value, "reason": plan.reason})
    return plan


def load_models(settings: Settings, plan: DevicePlan, runtime: Runtime | None = None) -> tuple[Detector, PoseEstimator]:
    """Verify the models and open them on the device that was chosen.

    Args:
        settings: which models, and how they are run.
        plan: the device.
        runtime: None: ONNX Runtime.

    Raises:
        ModelError: a model is missing, damaged or not what the manifest says.
        DeviceError: the backend that was asked for cannot run the pose model.
        ConfigError: the head of the pose model cannot do the decoding or the flip test.
    """
    runtime = runtime or onnx_runtime()
    store = open_store(settings)
    choice = choose(settings, store.manifest)
    opened = open_model(choice.pose, store, plan, runtime, settings.pose_runtime)
    pose = PoseEstimator(choice.pose, opened.session, opened.weights, decoding=settings.decoding, flip_test=settings.flip_test)
    return Detector(choice.detector, open_model(choice.detector, store, plan, runtime).session), pose


def _first_run(session: InferenceSession, spec: ModelSpec) -> str:
    """Run a model once, to find a device that opens a model and then fails; return the provider that it ran on."""
    blank = np.zeros((spec.input.height, spec.input.width, 3), np.uint8)
    session.run(Preprocessor(spec.input, session.input_format)([blank]))
    return session.provider
