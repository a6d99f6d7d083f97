"""Which of a model's files runs, and that the choice is never silent."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from posewire.backends.device import CPU_PROVIDER, CUDA_PROVIDER
from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.errors import DeviceError, ModelError
from posewire.native.library import FILE
from posewire.registry.specs import Task
from posewire.registry.store import ModelStore, default_root
from posewire.telemetry.metrics import Metrics
from tests.backends.machine import Machine

built = pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")


def copy_of_the_store(folder: Path) -> Path:
    return Path(shutil.copytree(default_root(), folder / "store", ignore=shutil.ignore_patterns("checkpoints", "training")))


def without_kernels(store: Path) -> Path:
    """The store, whose models have no weights for the kernels."""
    path = store / "manifest.toml"
    first, *rest = path.read_text().split("[models.kernels]\n")
    path.write_text(first + "".join(part[part.index("[models.") :] for part in rest))
    return store


@built
def test_the_kernels_run_the_shipped_model_and_find_the_same_keypoints() -> None:
    kernels, onnx = (load_engine(load_settings({}, pose_runtime=name), Metrics()).pose for name in ("auto", "onnxruntime"))
    assert kernels.session.provider.startswith("PosewireKernels")
    assert onnx.session.provider == CPU_PROVIDER
    spec = kernels.spec
    crops = list(np.random.default_rng(0).integers(0, 256, (4, spec.input.height, spec.input.width, 3), dtype=np.uint8))
    for ours, theirs in zip(kernels.infer(crops), onnx.infer(crops), strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        np.testing.assert_allclose(ours.xy, theirs.xy, atol=0.1)


def test_a_model_without_kernel_weights_runs_on_onnx_runtime_and_the_log_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = without_kernels(copy_of_the_store(tmp_path))
    with caplog.at_level(logging.INFO):
        engine = load_engine(load_settings({}, model_store=store), Metrics())
    assert engine.pose.session.provider == CPU_PROVIDER
    assert any("names no kernel weights" in getattr(record, "reason", "") for record in caplog.records)


def test_kernels_that_were_asked_for_and_cannot_run_are_an_error(tmp_path: Path) -> None:
    store = without_kernels(copy_of_the_store(tmp_path))
    with pytest.raises(DeviceError, match="POSEWIRE_POSE_RUNTIME=kernels: the manifest names no kernel weights"):
        load_engine(load_settings({}, model_store=store, pose_runtime="kernels"), Metrics())


def test_on_a_gpu_the_pose_model_runs_there() -> None:
    gpu = Machine(CUDA_PROVIDER, CPU_PROVIDER)
    assert load_engine(load_settings({}, device="cuda"), Metrics(), gpu).pose.session.provider == CUDA_PROVIDER
    with pytest.raises(DeviceError, match="for a CPU, not for cuda"):
        load_engine(load_settings({}, device="cuda", pose_runtime="kernels"), Metrics(), gpu)


@pytest.mark.parametrize(("task", "kind"), [("pose", ".safetensors"), ("detector", ".onnx")])
def test_damaged_weights_of_either_kind_are_named(tmp_path: Path, task: Task, kind: str) -> None:
    root = copy_of_the_store(tmp_path)
    store = ModelStore(root)
    spec = store.manifest.default(task)
    path = root / spec.files[-1].file
    assert path.suffix == kind
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path.name}: expected SHA-256"):
        store.verify(spec)
    path.unlink()
    with pytest.raises(ModelError, match=f"the weights of {spec.name} are missing"):
        store.verify(spec)
