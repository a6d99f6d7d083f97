"""From the settings to models that are open on a device."""

import logging

import numpy as np
import onnxruntime

from posewire.backends.cpu_limit import cpu_limit
from posewire.backends.device import DevicePlan, Runtime, choose_device
from posewire.backends.onnxruntime import OnnxSession
from posewire.backends.opening import pose_kernels
from posewire.backends.preprocess import ModelFeed, require_fit
from posewire.config import Settings
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.registry.choice import choose
from posewire.registry.specs import ModelSpec
from posewire.registry.store import open_store

log = logging.getLogger(__name__)


def plan_device(settings: Settings, runtime: Runtime | None = None) -> DevicePlan:
    """Choose the device by the settings and by what really loads.

    Raises:
        ModelError: the pose model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
    """
    store, runtime = open_store(settings), runtime or onnxruntime
    spec = choose(settings, store.manifest).pose
    plan = choose_device(
        settings.device,
        runtime,
        lambda plan: _first_run(_opened(store.verified_bytes(spec), spec, plan, runtime), spec),
        workers=settings.threads or max(1, cpu_limit() // settings.intra_op_threads),
        intra_op_threads=settings.intra_op_threads,
        memory_bytes=settings.gpu_memory_mb * 1024 * 1024,
        cache=settings.cache_dir,
    )
    log.info("device chosen", extra={"device": plan.device.value, "reason": plan.reason})
    return plan


def load_pipeline(settings: Settings, plan: DevicePlan, runtime: Runtime | None = None) -> PosePipeline:
    """Verify the models and open them on the device that was chosen.

    Args:
        settings: which models, and how they are run.
        plan: the device.
        runtime: None: ONNX Runtime.

    Raises:
        ModelError: a model is missing, damaged or not what the manifest says.
        DeviceError: Posewire's kernels were asked for and cannot run the pose model.
        ConfigError: the pose model gives keypoints, and a flip test or another decoding is asked for.
    """
    store, runtime = open_store(settings), runtime or onnxruntime
    choice = choose(settings, store.manifest)
    pose_model = store.verified_bytes(choice.pose)
    session = pose_kernels(choice.pose, store, plan, settings) or _opened(pose_model, choice.pose, plan, runtime)
    pose = PoseEstimator(choice.pose, session, decoding=settings.decoding, flip_test=settings.flip_test)
    detector = Detector(choice.detector, _opened(store.verified_bytes(choice.detector), choice.detector, plan, runtime))
    return PosePipeline(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)


def _opened(model: bytes, spec: ModelSpec, plan: DevicePlan, runtime: Runtime) -> OnnxSession:
    sizes = {"height": spec.input.height, "width": spec.input.width}
    session = OnnxSession(model, spec.name, plan, runtime, sizes=sizes)
    require_fit(spec, session)
    return session


def _first_run(session: OnnxSession, spec: ModelSpec) -> str:
    """Run a model once, so that a device that opens it and then fails is found out; the provider that it ran on."""
    session.run(ModelFeed(spec.input)([np.zeros((spec.input.height, spec.input.width, 3), np.uint8)]))
    return session.provider
