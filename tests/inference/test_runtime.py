"""Which of a model's files runs, and that the choice is never silent."""

import hashlib
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from posewire.config import load_settings
from posewire.errors import DeviceError, ModelError
from posewire.inference.cpu import multiplies_bytes_exactly
from posewire.inference.device import CPU_PROVIDER, CUDA_PROVIDER
from posewire.inference.engine import Engine, load_engine
from posewire.kernels.detection import LEVEL
from posewire.kernels.folded import fold, write
from posewire.kernels.library import FILE, load_kernels
from posewire.models.litehrnet.graph import compile_graph
from posewire.models.litehrnet.spec import get_variant
from posewire.models.specs import Task
from posewire.models.store import ModelStore, default_root
from posewire.telemetry.metrics import Metrics
from posewire.types import Frame
from tests.inference.machine import Machine
from tests.models.test_graph import random_state
from tests.pictures import astronaut

vnni = pytest.mark.skipif(not multiplies_bytes_exactly(), reason="this processor has no VNNI")
built = pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")


kernels_in_int8 = pytest.mark.skipif(
    not FILE.is_file() or load_kernels().level != LEVEL, reason="the kernels are not built, or this processor has no AVX-512 VNNI"
)


def copy_of_the_store(folder: Path) -> Path:
    return Path(shutil.copytree(default_root(), folder / "store", ignore=shutil.ignore_patterns("checkpoints", "training")))


def without(store: Path, *tables: str) -> Path:
    """The store, whose models have none of those tables."""
    path = store / "manifest.toml"
    for table in tables:
        first, *rest = path.read_text().split(f"[models.{table}]\n")
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


@built
def test_the_kernels_run_a_naive_network_and_find_the_same_keypoints(tmp_path: Path) -> None:
    store = copy_of_the_store(tmp_path)
    spec = ModelStore().manifest.default("pose")
    variant = get_variant("wider-naive-litehrnet-18")
    state = random_state(variant)
    graph = compile_graph(variant, state, spec.input.height, spec.input.width).SerializeToString()
    assert spec.kernels is not None
    manifest = (store / "manifest.toml").read_text()
    for weights, content in ((spec, graph), (spec.kernels, write(fold(variant, state, sigmoid=False)))):
        (store / weights.file).write_bytes(content)
        manifest = manifest.replace(weights.sha256, hashlib.sha256(content).hexdigest())
        manifest = manifest.replace(f"bytes = {weights.bytes}\n", f"bytes = {len(content)}\n")
    (store / "manifest.toml").write_text(manifest)
    kernels, onnx = (
        load_engine(load_settings({}, model_store=store, pose_runtime=name), Metrics()).pose for name in ("auto", "onnxruntime")
    )
    assert kernels.session.provider.startswith("PosewireKernels")
    crops = list(np.random.default_rng(0).integers(0, 256, (4, spec.input.height, spec.input.width, 3), dtype=np.uint8))
    for ours, theirs in zip(kernels.infer(crops), onnx.infer(crops), strict=True):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4 * np.abs(theirs.scores).max())
        np.testing.assert_allclose(ours.xy, theirs.xy, atol=0.1)


def test_a_model_without_kernel_weights_runs_on_onnx_runtime_and_the_log_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = without(copy_of_the_store(tmp_path), "kernels")
    with caplog.at_level(logging.INFO):
        engine = load_engine(load_settings({}, model_store=store), Metrics())
    assert engine.pose.session.provider == CPU_PROVIDER
    assert any("names no kernel weights" in getattr(record, "reason", "") for record in caplog.records)


def test_kernels_that_were_asked_for_and_cannot_run_are_an_error(tmp_path: Path) -> None:
    store = without(copy_of_the_store(tmp_path), "kernels")
    with pytest.raises(DeviceError, match="POSEWIRE_POSE_RUNTIME=kernels: the manifest names no kernel weights"):
        load_engine(load_settings({}, model_store=store, pose_runtime="kernels"), Metrics())


@vnni
def test_the_detector_runs_in_int8_and_finds_the_same_people() -> None:
    int8, float32 = (
        load_engine(load_settings({}, detector_precision=name, detector_runtime="onnxruntime"), Metrics()) for name in ("auto", "float32")
    )
    spec = ModelStore().manifest.default("detector")
    assert spec.int8 is not None
    assert (int8.detector.weights, float32.detector.weights) == (spec.int8, spec)
    assert [engine.models[0].weights.sha256 for engine in (int8, float32)] == [spec.int8.sha256, spec.sha256]
    assert_same_people(int8, float32)


@kernels_in_int8
def test_the_detector_runs_on_the_kernels_and_finds_the_same_people() -> None:
    kernels, float32 = (load_engine(load_settings({}, detector_precision=name), Metrics()) for name in ("auto", "float32"))
    assert kernels.detector.weights == ModelStore().manifest.default("detector").kernels
    assert kernels.models[0].provider.startswith("PosewireKernels")
    assert float32.models[0].provider == CPU_PROVIDER
    assert_same_people(kernels, float32)


def assert_same_people(one: Engine, other: Engine) -> None:
    frame = Frame(astronaut())
    found = []
    for engine in (one, other):
        shown = engine.detector.prepare(frame)
        (raw,) = engine.detector.infer([shown.pixels])
        found.append(engine.detector.finish(raw, shown.scale, frame, 0.4, 10))
    assert len(found[0].scores) == len(found[1].scores) >= 1
    np.testing.assert_allclose(found[0].boxes_xyxy, found[1].boxes_xyxy, atol=10)
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=0.1)


@pytest.mark.parametrize(
    ("missing", "settings", "words"),
    [
        (["kernels"], {}, "the manifest names no kernel weights of persondet-320"),
        ([], {"detector_precision": "float32"}, "run a detector in INT8, and POSEWIRE_DETECTOR_PRECISION is float32"),
    ],
)
def test_a_detector_that_the_kernels_cannot_run_runs_on_onnx_runtime_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: list[str], settings: dict[str, str], words: str
) -> None:
    store = without(copy_of_the_store(tmp_path), *missing)
    with caplog.at_level(logging.INFO):
        engine = load_engine(load_settings({}, model_store=store, **settings), Metrics())
    assert engine.models[0].provider == CPU_PROVIDER
    assert any(words in getattr(record, "reason", "") for record in caplog.records)
    with pytest.raises(DeviceError, match=f"POSEWIRE_DETECTOR_RUNTIME=kernels: .*{words}"):
        load_engine(load_settings({}, model_store=store, detector_runtime="kernels", **settings), Metrics())


def test_a_detector_without_an_int8_file_runs_in_float32_and_the_log_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = without(copy_of_the_store(tmp_path), "int8", "kernels")
    with caplog.at_level(logging.INFO):
        engine = load_engine(load_settings({}, model_store=store), Metrics())
    assert engine.detector.weights.file == "weights/persondet-320.onnx"
    assert any("names no INT8 file" in getattr(record, "reason", "") for record in caplog.records)
    with pytest.raises(DeviceError, match="POSEWIRE_DETECTOR_PRECISION=int8: the manifest names no INT8 file"):
        load_engine(load_settings({}, model_store=store, detector_precision="int8"), Metrics())


def test_on_a_gpu_the_detector_runs_in_float32() -> None:
    gpu = Machine(CUDA_PROVIDER, CPU_PROVIDER)
    assert load_engine(load_settings({}, device="cuda"), Metrics(), gpu).detector.weights.file == "weights/persondet-320.onnx"
    with pytest.raises(DeviceError, match="INT8 is for a CPU, not for cuda"):
        load_engine(load_settings({}, device="cuda", detector_precision="int8"), Metrics(), gpu)
    with pytest.raises(DeviceError, match="kernels are for a CPU, not for cuda"):
        load_engine(load_settings({}, device="cuda", detector_runtime="kernels"), Metrics(), gpu)


def test_on_a_gpu_the_pose_model_runs_there() -> None:
    gpu = Machine(CUDA_PROVIDER, CPU_PROVIDER)
    assert load_engine(load_settings({}, device="cuda"), Metrics(), gpu).pose.session.provider == CUDA_PROVIDER
    with pytest.raises(DeviceError, match="for a CPU, not for cuda"):
        load_engine(load_settings({}, device="cuda", pose_runtime="kernels"), Metrics(), gpu)


@pytest.mark.parametrize("task", ["pose", "detector"])
def test_damaged_weights_of_either_kind_are_named(tmp_path: Path, task: Task) -> None:
    root = copy_of_the_store(tmp_path)
    store = ModelStore(root)
    spec = store.manifest.default(task)
    path = root / spec.files[-1].file
    assert path.suffix == ".safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path.name}: expected SHA-256"):
        store.verify(spec)
    path.unlink()
    with pytest.raises(ModelError, match=f"the weights of {spec.name} are missing"):
        store.verify(spec)
