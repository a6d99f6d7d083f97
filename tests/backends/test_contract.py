"""The contract of every backend, and a backend of somebody else."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posewire import ConfigError, DeviceError, PosePipeline
from posewire.backends.base import InferenceSession, OpenedModel, Unsupported, backends, open_model, register_backend
from posewire.backends.device import DevicePlan, Runtime, cpu_plan
from posewire.backends.preprocess import Preprocessor
from posewire.native.library import FILE
from posewire.registry.specs import ModelSpec
from posewire.registry.store import ModelStore
from posewire.types import FloatArray, InputFormat, UInt8Array
from tests.sample_images import ASTRONAUT

STORE = ModelStore()
SPEC = STORE.manifest.get("litehrnet18-128x96", "pose")
DETECTOR = STORE.manifest.default("detector")
PLAN = cpu_plan(1, "a test")
BUILT_IN = [
    pytest.param(name, marks=pytest.mark.skipif(name == "kernels" and not FILE.is_file(), reason="the kernels are not built"))
    for name in backends()
]


def opened(name: str) -> InferenceSession:
    return open_model(SPEC, STORE, PLAN, onnxruntime, name).session


@pytest.fixture(scope="module", params=BUILT_IN)
def session(request: pytest.FixtureRequest) -> InferenceSession:
    return opened(request.param)


@pytest.fixture(scope="module")
def images() -> list[UInt8Array]:
    return list(np.random.default_rng(3).integers(0, 256, (9, SPEC.input.height, SPEC.input.width, 3), np.uint8))


@pytest.fixture(scope="module")
def expected(images: list[UInt8Array]) -> FloatArray:
    return run(opened("onnxruntime"), images)


def run(session: InferenceSession, images: list[UInt8Array]) -> FloatArray:
    return session.run(Preprocessor(SPEC.input, session.input_format)(images))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_batch_of_any_size_gives_the_same_outputs(
    session: InferenceSession, images: list[UInt8Array], expected: FloatArray, count: int
) -> None:
    found = run(session, images[:count])
    assert (found.dtype, found.shape) == (np.dtype(np.float32), (count, *session.output_shape))
    np.testing.assert_allclose(found, expected[:count], atol=1e-4)


def test_sizes_that_are_opened_and_closed_change_no_output(
    session: InferenceSession, images: list[UInt8Array], expected: FloatArray
) -> None:
    assert session.padding(1) == session.padding(3) == 0
    if session.open_size(4):
        assert session.padding(3) == 1
        assert session.padding(4) == 0
    for count in (1, 3, 4, 9):
        np.testing.assert_allclose(run(session, images[:count]), expected[:count], atol=1e-4)
    session.close_size(4)
    assert session.padding(3) == 0


def test_an_exclusive_run_gives_the_same(session: InferenceSession, images: list[UInt8Array], expected: FloatArray) -> None:
    assert session.open_exclusive() == session.open_exclusive()
    batch = Preprocessor(SPEC.input, session.input_format)(images[:2])
    for count in (1, 2):
        np.testing.assert_allclose(session.run(batch[:count], exclusive=True), expected[:count], atol=1e-4)


def test_threads_do_not_disturb_one_another(session: InferenceSession, images: list[UInt8Array], expected: FloatArray) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda image: run(session, [image])[0], images))
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-4)


BAD: dict[str, Callable[[Any], Any]] = {
    "narrower": lambda batch: batch[:, :, :-1],
    "another dtype": lambda batch: batch.astype(np.float64),
    "no batch": lambda batch: batch[0],
}


@pytest.mark.parametrize("how", BAD)
def test_a_wrong_input_is_an_error(session: InferenceSession, images: list[UInt8Array], how: str) -> None:
    batch = Preprocessor(SPEC.input, session.input_format)(images[:1])
    with pytest.raises(Exception, match=r".+"):
        session.run(BAD[how](batch))
    assert len(session.run(batch)) == 1  # and the session runs on


def test_a_session_says_what_it_is(session: InferenceSession) -> None:
    assert session.provider
    assert tuple(session.input_shape) in ((3, SPEC.input.height, SPEC.input.width), (SPEC.input.height, SPEC.input.width, 3))
    assert tuple(session.output_shape) == (17, SPEC.input.height // 4, SPEC.input.width // 4)


def test_auto_takes_the_first_backend_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_model(SPEC, STORE, PLAN, onnxruntime)
    assert first.session.provider.startswith("PosewireKernels" if FILE.is_file() else "CPU")
    detector = open_model(DETECTOR, STORE, PLAN, onnxruntime)
    assert (detector.session.provider, detector.weights) == ("CPUExecutionProvider", DETECTOR)


def test_a_backend_that_is_not_there_or_cannot_is_named() -> None:
    with pytest.raises(ConfigError, match=r"POSEWIRE_POSE_RUNTIME='abacus': input should be 'auto', .*'kernels' or 'onnxruntime'"):
        open_model(SPEC, STORE, PLAN, onnxruntime, "abacus")
    with pytest.raises(DeviceError, match="POSEWIRE_POSE_RUNTIME=kernels: Posewire's kernels run pose models only; set it to auto"):
        open_model(DETECTOR, STORE, PLAN, onnxruntime, "kernels")


class Middle:
    """Says that every keypoint is in the middle of the crop."""

    provider = "Toy"
    input_format: InputFormat = "uint8-nhwc"
    input_shape = (SPEC.input.height, SPEC.input.width, 3)
    output_shape = (17, SPEC.input.height // 4, SPEC.input.width // 4)

    def run(self, batch: FloatArray | UInt8Array, *, exclusive: bool = False) -> FloatArray:
        heatmaps = np.zeros((len(batch), *self.output_shape), np.float32)
        heatmaps[:, :, self.output_shape[1] // 2, self.output_shape[2] // 2] = 0.75
        return heatmaps

    def open_size(self, size: int) -> bool:
        return False

    def close_size(self, size: int) -> None:
        pass

    def padding(self, items: int) -> int:
        return 0

    def open_exclusive(self) -> bool:
        return False


@register_backend("toy")
def open_toy(spec: ModelSpec, store: ModelStore, plan: DevicePlan, runtime: Runtime) -> OpenedModel:
    """One file, and it serves: a pose model whose card says so."""
    if spec.title != "toy":
        raise Unsupported("the toy runs toys only")
    return OpenedModel(Middle(), spec)


def toy_store(folder: Path) -> Path:
    root = Path(shutil.copytree(STORE.root, folder / "store", ignore=shutil.ignore_patterns("checkpoints", "training")))
    path = root / "manifest.toml"
    path.write_text(path.read_text().replace(SPEC.title, "toy"))
    return root


@pytest.mark.parametrize("runtime", ["auto", "toy"])
def test_a_backend_of_one_file_serves_an_image(tmp_path: Path, runtime: str) -> None:
    pipeline = PosePipeline.load("paper", "cpu", model_store=toy_store(tmp_path), pose_runtime=runtime)
    assert pipeline.pose.session.provider == "Toy"
    [person] = pipeline(ASTRONAUT, boxes=[[100, 100, 60, 80]]).people
    assert person.keypoints.xy == pytest.approx(np.tile([130, 140], (17, 1)), abs=0.01)
    assert person.keypoints.scores.tolist() == [0.75] * 17
