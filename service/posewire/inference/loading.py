"""From the settings to models that are open on a device."""

import logging

import numpy as np
import onnxruntime

from posewire.config import Settings
from posewire.inference.cpu import cpu_limit
from posewire.inference.detector import Detector
from posewire.inference.device import DevicePlan, Runtime, choose_device
from posewire.inference.feed import ModelFeed, require_fit
from posewire.inference.pose import PoseEstimator
from posewire.inference.runtime import pose_kernels
from posewire.inference.session import OnnxSession
from posewire.inference.stages import Stages
from posewire.models.specs import ModelSpec
from posewire.models.store import open_store

log = logging.getLogger(__name__)


def plan_device(settings: Settings, runtime: Runtime | None = None) -> DevicePlan:
    """Choose the device by the settings and by what really loads.

    Raises:
        ModelError: the pose model is missing, damaged or not what the manifest says.
        DeviceError: the device that was asked for does not load.
    """
    store, runtime = open_store(settings), runtime or onnxruntime
    spec = store.manifest.get(settings.pose, "pose") if settings.pose else store.manifest.default("pose")
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


def load_stages(settings: Settings, plan: DevicePlan, runtime: Runtime | None = None) -> Stages:
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
    manifest = store.manifest
    detector_spec = manifest.get(settings.detector, "detector") if settings.detector else manifest.default("detector")
    pose_spec = manifest.get(settings.pose, "pose") if settings.pose else manifest.default("pose")
    pose_model = store.verified_bytes(pose_spec)
    session = pose_kernels(pose_spec, store, plan, settings) or _opened(pose_model, pose_spec, plan, runtime)
    pose = PoseEstimator(pose_spec, session, decoding=settings.decoding, flip_test=settings.flip_test)
    detector = Detector(detector_spec, _opened(store.verified_bytes(detector_spec), detector_spec, plan, runtime))
    return Stages(detector, pose, max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)


def _opened(model: bytes, spec: ModelSpec, plan: DevicePlan, runtime: Runtime) -> OnnxSession:
    sizes = {"height": spec.input.height, "width": spec.input.width}
    session = OnnxSession(model, spec.name, plan, runtime, sizes=sizes)
    require_fit(spec, session)
    return session


def _first_run(session: OnnxSession, spec: ModelSpec) -> str:
    """Run a model once, so that a device that opens it and then fails is found out; the provider that it ran on."""
    session.run(ModelFeed(spec.input)([np.zeros((spec.input.height, spec.input.width, 3), np.uint8)]))
    return session.provider
