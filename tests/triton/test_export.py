"""`posewire models export --triton`: the configurations against the graphs, the networks against the pipeline, and the folder."""

import errno
import hashlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from posewire.config import load_settings
from posewire.errors import ConfigError, ModelError, PosewireError
from posewire.pipeline.detector import Detector
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.registry.installed import manifest_text
from posewire.registry.specs import DetectorSpec, ModelInput, ModelSpec
from posewire.registry.store import ModelStore, default_root
from posewire.tools.triton.config import network_config
from posewire.tools.triton.export import export
from posewire.tools.triton.graph import read_graph
from posewire.triton.networks import Network, Networks
from posewire.triton.session import BlsSession
from posewire.types import Frame
from tests.compiler.archives import end2end_model
from tests.pipeline.test_model_forms import add_model
from tests.sample_images import ASTRONAUT, astronaut, encode, variations
from tests.test_cli import posewire
from tests.triton.server import Server, images, kind_of, outputs_of, read_config
from tests.triton.test_model import PIXELS, SCORE, agrees

NAMES = ["posewire", "posewire_detector", "posewire_pose"]
SHIPPED = ModelStore()
KINDS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def files(folder: Path) -> list[str]:
    """The paths of all files, also of hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = [
    "posewire/1/model.py",
    "posewire/1/networks.json",
    "posewire/config.pbtxt",
    "posewire_detector/1/model.onnx",
    "posewire_detector/config.pbtxt",
    "posewire_pose/1/model.onnx",
    "posewire_pose/config.pbtxt",
]


def open_dimension(size: object) -> int:
    return size if isinstance(size, int) else -1


def check_network(folder: Path) -> Any:
    """Compare a configuration with its graph by the rules of Triton's ONNX Runtime backend, and return it.

    `CompareDimsSupported` in onnxruntime_utils.cc: an open size of an input may be any; those of an output must be as in the graph.
    """
    config = read_config(folder / "config.pbtxt")
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert config.platform == "onnxruntime_onnx"
    for tensors, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        graph = {tensor.name: tensor for tensor in found}
        for tensor in tensors:
            shape = [open_dimension(size) for size in graph[tensor.name].shape]
            dims = [-1, *tensor.dims] if config.max_batch_size else list(tensor.dims)
            assert kind_of(tensor) == KINDS[graph[tensor.name].type]
            assert dims == shape if tensors is config.output else len(dims) == len(shape)
            assert all(size in (-1, dim) for size, dim in zip(shape, dims, strict=True))
            if config.max_batch_size:
                assert shape[0] == -1
    [given] = config.input
    for warmup in config.model_warmup:
        assert list(warmup.inputs[given.name].dims) == list(given.dims)
        assert warmup.inputs[given.name].data_type == given.data_type
    assert [warmup.batch_size for warmup in config.model_warmup] == sorted({1, max(1, config.max_batch_size)})
    return config


@pytest.mark.parametrize("pair", list(SHIPPED.manifest.pairs))
def test_the_configurations_fit_the_graphs(tmp_path: Path, pair: str) -> None:
    exported = export(load_settings({}, models=pair), tmp_path / "models")
    chosen = SHIPPED.manifest.pair(pair)
    assert (exported.detector.name, exported.pose.name) == (chosen.detector, chosen.pose)
    assert files(tmp_path / "models") == WHOLE
    for name, spec in (("posewire_detector", exported.detector), ("posewire_pose", exported.pose)):
        config = check_network(tmp_path / "models" / name)
        assert (config.name, config.max_batch_size) == (name, 16)
        sides = (spec.input.height, spec.input.width)
        assert tuple(config.input[0].dims) == ((*sides, 3) if spec.input.format == "uint8-nhwc" else (3, *sides))
        assert list(config.dynamic_batching.preferred_batch_size) == [4, 8, 16]
        assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 10_000
        assert config.instance_group[0].kind == config.instance_group[0].KIND_AUTO
        weights = (tmp_path / "models" / name / "1" / "model.onnx").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == spec.sha256
    assert [file.name for file in tmp_path.iterdir()] == ["models"]


def test_the_networks_give_the_pipeline_s_boxes_and_keypoints_at_every_batch_size(
    repository: Path, server: Server, pipeline: PosePipeline
) -> None:
    networks = Networks.read(repository / "posewire" / "1")
    detector, pose = pipeline.detector, pipeline.pose
    shape = (len(pose.spec.keypoints.names), 32, 24)
    through_triton = (
        Detector(detector.spec, BlsSession(server.pb_utils, networks.detector_network, detector.spec.input, (None, 5))),
        PoseEstimator(pose.spec, BlsSession(server.pb_utils, networks.pose_network, pose.spec.input, shape)),
    )
    photos = [pipeline.frame(photo) for photo in variations(16)]
    boxes = np.array([[70 - 3 * i, 5 + 2 * i, 300 + 5 * i, 500 - 4 * i] for i in range(16)], np.float32)
    crops = [crop.pixels for crop in pose.crop(Frame(astronaut()), boxes)]
    small = [detector.preprocess(photo).pixels for photo in photos]
    wanted_rows, wanted = detector.infer(small), pose.infer(crops)
    for size in range(1, 17):
        rows = through_triton[0].infer(small[16 - size :])
        np.testing.assert_allclose(rows, wanted_rows[16 - size :], atol=1e-2)
        found = through_triton[1].infer(crops[:size])
        for one, other in zip(found, wanted[:size], strict=True):
            np.testing.assert_allclose(one.xy, other.xy, atol=PIXELS)
            np.testing.assert_allclose(one.scores, other.scores, atol=SCORE)
    assert server.batches == {"posewire_detector": list(range(1, 17)), "posewire_pose": list(range(1, 17))}


def one_by_one(model: bytes) -> bytes:
    """The same network for batches of 1 only."""
    graph = onnx.load_from_string(model)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return bytes(graph.SerializeToString())


def with_content(root: Path, spec: ModelSpec, name: str, content: bytes, **more: Any) -> ModelSpec:
    """An entry for other content, which is written beside the manifest."""
    (root / f"{name}.onnx").write_bytes(content)
    update = {"name": name, "file": f"{name}.onnx", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return spec.model_copy(update=update | more)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of somebody's own models: raw pixels, keypoints instead of heatmaps, batches of 1, suppression in the graph."""
    root = tmp_path_factory.mktemp("own")
    detector, pose = SHIPPED.manifest.default("detector"), SHIPPED.manifest.default("pose")
    (root / "weights").symlink_to(default_root() / "weights")
    people = {
        "licence": "CC0-1.0",
        "input": {"format": "float32-nchw", "height": 320, "width": 320, "colour": "BGR", "mean": (0, 0, 0), "std": (255, 255, 255)},
        "output": {"layout": "end2end"},
    }
    end2end = DetectorSpec.model_validate(with_content(root, detector, "end2end", end2end_model()).model_dump() | people)
    specs = (
        detector,
        pose,
        with_content(root, pose, "fixed", one_by_one(SHIPPED.verified_bytes(pose)), kernels=None),
        add_model(root, "pixels", "uint8-nchw", "keypoints", "BGR"),
        end2end,
    )
    defaults = f'[defaults]\ndetector = "{detector.name}"\npose = "{pose.name}"\n'
    (root / "manifest.toml").write_text(defaults + manifest_text(specs))
    return root


@pytest.mark.parametrize(
    ("detector", "pose", "batches"),
    [("person-nano-320", "pixels", (16, 16)), ("person-nano-320", "fixed", (16, 0)), ("end2end", "litehrnet18-wider-128x96", (0, 16))],
)
def test_models_of_one_s_own_have_the_pipeline_s_people(
    own: Path, tmp_path: Path, detector: str, pose: str, batches: tuple[int, int]
) -> None:
    chosen: dict[str, Any] = {"model_store": own, "detector": detector, "pose": pose, "min_detection_score": 0.3}
    export(load_settings({}, **chosen), tmp_path / "models")
    for name, size in zip(("posewire_detector", "posewire_pose"), batches, strict=True):
        config = check_network(tmp_path / "models" / name)
        assert config.max_batch_size == size
        assert config.HasField("dynamic_batching") == (size > 0)
    bright = encode(np.full((200, 300, 3), 255, np.uint8))  # four people for the detector that measures brightness
    photos = [ASTRONAUT.read_bytes(), bright]
    pipeline = PosePipeline.load(device="cpu", pose_runtime="onnxruntime", **chosen)
    found = outputs_of(Server(tmp_path / "models").infer({"images": images(*photos)}))
    agrees(found, pipeline.batch(photos))
    assert sum(found["people_count"]) >= 1


def test_outputs_of_a_network_are_joined_item_by_item(repository: Path, tmp_path: Path) -> None:
    """As a head of SimCC reads them: one output for x, one for y."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixels"], ["x"]), helper.make_node("ReduceMean", ["pixels"], ["y"], axes=[1], keepdims=0)],
        "two",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 2, 4])],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 24]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 4]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    described = ModelInput(height=2, width=4, colour="RGB", mean=(0, 0, 0), std=(1, 1, 1))
    shutil.copytree(repository, tmp_path / "models")
    (tmp_path / "models" / "two" / "1").mkdir(parents=True)
    (tmp_path / "models" / "two" / "1" / "model.onnx").write_bytes(model)
    config = network_config("two", read_graph(model, "two", ("y", "x")), (3, 2, 4), 4)
    (tmp_path / "models" / "two" / "config.pbtxt").write_bytes(config)
    assert [output.name for output in check_network(tmp_path / "models" / "two").output] == ["y", "x"]
    server = Server(tmp_path / "models")
    network = Network(model="two", input="pixels", outputs=("y", "x"), max_batch=4)
    batch = np.random.default_rng(1).random((6, 3, 2, 4), np.float32)
    found = BlsSession(server.pb_utils, network, described, (32,)).run(batch)
    np.testing.assert_allclose(found, np.concatenate([batch.mean(1).reshape(6, 8), batch.reshape(6, 24)], 1), rtol=1e-6)
    assert server.batches["two"] == [4, 2]


def test_the_settings_in_force_are_parameters_of_the_pipeline(tmp_path: Path) -> None:
    settings = load_settings({}, max_people=7, flip_test=True, decoding="quarter", min_detection_score=0.2, max_batch=4)
    export(settings, tmp_path)
    config = read_config(tmp_path / "posewire" / "config.pbtxt")
    given = load_settings({key: value.string_value for key, value in config.parameters.items()})
    assert (given.max_people, given.flip_test, given.decoding, given.min_detection_score) == (7, True, "quarter", 0.2)
    assert read_config(tmp_path / "posewire_pose" / "config.pbtxt").max_batch_size == 4
    pipeline = PosePipeline.load(device="cpu", pose_runtime="onnxruntime", flip_test=True, decoding="quarter", min_detection_score=0.2)
    photo = ASTRONAUT.read_bytes()
    agrees(outputs_of(Server(tmp_path).infer({"images": images(photo)})), [pipeline(photo, max_people=7)])


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PosewireError, match="is not empty; --replace"):
        export(load_settings({}), tmp_path)
    assert files(tmp_path) == ["notes.txt"]


def test_replace_leaves_other_models_and_nothing_of_its_own_old_ones(tmp_path: Path) -> None:
    for path in ("other/config.pbtxt", "posewire/2/model.py", "posewire_pose/labels.txt"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("old")
    export(load_settings({}), tmp_path, replace=True)
    assert files(tmp_path) == ["other/config.pbtxt", *WHOLE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", *NAMES]


def test_what_goes_wrong_in_the_middle_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "posewire" / "1").mkdir(parents=True)
    (tmp_path / "posewire" / "1" / "model.py").write_text("old")
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.parent.name == "new" and path.name == "posewire":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(PosewireError, match="No space left on device; nothing was exported"):
        export(load_settings({}), tmp_path, replace=True)
    assert files(tmp_path) == ["posewire/1/model.py"]
    assert (tmp_path / "posewire" / "1" / "model.py").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["posewire"]


def test_a_file_that_cannot_be_written_leaves_no_folder(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))  # the detector fits, the pose model does not

    target = tmp_path / "models"
    command = [sys.executable, "-m", "posewire", "models", "export", "--triton", str(target)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, preexec_fn=limit, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"posewire: {target} cannot be written: File too large; nothing was exported\n"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_not_exported(own: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(own, store, symlinks=True)
    weights = bytearray((store / "pixels.onnx").read_bytes())
    weights[-1] ^= 1
    (store / "pixels.onnx").write_bytes(weights)
    with pytest.raises(ModelError, match="SHA-256"):
        export(load_settings({}, model_store=store, pose="pixels"), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_settings_that_the_model_cannot_do_are_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="flip test"):
        export(load_settings({}, model_store=own, pose="pixels", flip_test=True), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    target = tmp_path / "a" / "models"
    done = posewire("models", "export", "--triton", target, "--models", "accurate", "--pose", "litehrnet18-128x96")
    assert (done.returncode, done.stderr) == (0, "")
    assert "posewire_detector (person-nano-416)" in done.stdout
    assert "posewire_pose (litehrnet18-128x96)" in done.stdout
    assert f"tritonserver --model-repository={target}" in done.stdout
    assert files(target) == WHOLE
    again = posewire("models", "export", "--triton", target)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert posewire("models", "export", "--triton", target, "--replace").returncode == 0
    assert files(target) == WHOLE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pose", "nobody"], "'nobody' is not a pose model of the manifest"),
        (["--detector", "yolox-tiny"], "posewire models pull yolox-tiny"),
        (["--models", "best"], "'best' is not a pair"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    done = posewire("models", "export", "--triton", tmp_path / "models", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_triton_s_client_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "tritonclient.py").write_text("raise ModuleNotFoundError(\"No module named 'tritonclient'\", name='tritonclient')")
    command = [sys.executable, "-m", "posewire", "models", "export", "--triton", str(tmp_path / "models")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")} | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "posewire: a model repository for Triton needs its client: pip install 'posewire[triton]'\n"
    assert not (tmp_path / "models").exists()
