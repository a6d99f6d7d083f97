"""`posewire models add` and `remove`: files of every kind, what is told from them, what is asked, and what is refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from posewire import PosePipeline
from posewire.config import load_settings
from posewire.errors import PosewireError
from posewire.registry.store import ModelStore
from posewire.tools.adding.adding import Added, Place, add
from posewire.tools.adding.graph import read_graph
from posewire.tools.adding.recognising import Given
from posewire.tools.adding.trial import SAMPLE
from tests.pipeline.made_networks import IR, OPSET, constant_network, simcc_answers, to_bytes
from tests.sample_images import ASTRONAUT, COCO_MINI_VAL
from tests.test_cli import posewire

HEIGHT, WIDTH = 256, 192
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
NORMALISED: dict[str, Any] = {**IMAGENET, "colour": "RGB"}
YOLOX = COCO_MINI_VAL.parent / "models" / "yolox_nano.onnx"
XY = np.round(np.random.default_rng(0).uniform([40, 20], [150, 230], (17, 2)))

AddFile = Callable[..., Added]


@pytest.fixture
def add_file(tmp_path: Path) -> AddFile:
    """Add a file with this content, or that is there."""

    def run(content: bytes | Path, *, name: str = "mine", replace: bool = False, image: Path = SAMPLE, **said: Any) -> Added:
        file = tmp_path / "file.onnx"
        if isinstance(content, Path):
            file = content
        else:
            file.write_bytes(content)
        place = Place(name, tmp_path / "models", replace, "CC0-1.0")
        settings = load_settings({}, device="cpu", cache_dir=tmp_path)
        return add(file, Given(**said), place, ModelStore(installed=place.root), settings, image, tmp_path / "drawn.jpg")

    return run


def simcc(count: int = 17, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    xy = np.resize(XY, (count, 2))
    return constant_network(height, width, simcc_answers(xy, np.full(count, 0.8), height, width))


def facts(added: Added) -> dict[str, str]:
    return {fact.what: fact.value for fact in added.recognised.facts}


def test_a_file_of_rtmpose_is_asked_for_its_normalisation_only_and_then_served(tmp_path: Path, add_file: AddFile) -> None:
    asked = add_file(simcc())
    assert sorted(asked.recognised.missing) == ["--colour", "--mean", "--std"]
    assert (asked.spec, asked.trial) == (None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.onnx"]
    added = add_file(simcc(), **NORMALISED)
    assert facts(added)["layout"] == "simcc"
    assert facts(added)["keypoints"] == "17, coco-17"
    assert added.trial is not None
    assert added.trial.summary.startswith("1 person found; the best scores ")
    assert added.trial.summary.endswith(", and 17 of its 17 keypoints 0.2 or more")
    assert (tmp_path / "drawn.jpg").read_bytes() == added.trial.drawn
    pipeline = PosePipeline.load(device="cpu", cache_dir=tmp_path, pose="mine")
    assert pipeline.pose.spec.licence == "CC0-1.0"
    [person] = pipeline(np.zeros((400, 400, 3), np.uint8), boxes=[[200 - 76.8, 200 - 102.4, 153.6, 204.8]]).people
    assert person.keypoints.xy == pytest.approx(XY + np.array([104, 72]), abs=0.01)


def test_the_pipeline_file_of_mmdeploy_answers_what_would_be_asked(tmp_path: Path, add_file: AddFile) -> None:
    normalize = {"type": "Normalize", **IMAGENET, "to_rgb": True}
    affine = {"type": "TopDownAffine", "image_size": [WIDTH, HEIGHT]}
    decode = {"component": "SimCCLabelDecode", "params": {"type": "SimCCLabel", "simcc_split_ratio": 2.0}}
    (tmp_path / "pipeline.json").write_text(json.dumps({"pipeline": {"tasks": [{"transforms": [affine, normalize]}, decode]}}))
    added = add_file(simcc(26))
    assert added.recognised.missing == {}
    assert {fact.how for fact in added.recognised.facts if fact.what in ("mean", "std", "colour")} == {"pipeline.json beside the file"}
    assert facts(added)["keypoints"] == "26, halpe-26"


@pytest.mark.parametrize("content", [b"", b"[", b"[1, 2]", b'{"type": "Normalize", "mean": ["a"], "std": 3, "to_rgb": 1}', b"[" * 100_000])
def test_a_pipeline_file_that_says_nothing_changes_nothing(tmp_path: Path, add_file: AddFile, content: bytes) -> None:
    (tmp_path / "pipeline.json").write_bytes(content)
    assert sorted(add_file(simcc()).recognised.missing) == ["--colour", "--mean", "--std"]


def heatmaps(count: int = 17) -> bytes:
    ys, xs = np.mgrid[: HEIGHT // 4, : WIDTH // 4]
    bump = 0.9 * np.exp(-((xs - 20) ** 2 + (ys - 30) ** 2) / 8)
    return constant_network(HEIGHT, WIDTH, {"output": np.tile(bump, (count, 1, 1)).astype(np.float32)})


def test_heatmaps_are_asked_for_the_training_that_cannot_be_seen(add_file: AddFile) -> None:
    assert sorted(add_file(heatmaps()).recognised.missing) == ["--colour", "--layout", "--mean", "--sigma", "--std"]
    added = add_file(heatmaps(), **NORMALISED, layout="heatmaps-udp", sigma=2.0)
    assert added.spec is not None
    assert added.spec.output.model_dump(exclude_none=True) == {"layout": "heatmaps-udp", "outputs": (), "stride": 4, "sigma": 2.0}


def test_a_set_of_ones_own_goes_with_the_model(tmp_path: Path, add_file: AddFile) -> None:
    said = {**NORMALISED, "layout": "heatmaps", "sigma": 2.0}
    assert list(add_file(heatmaps(3), **said).recognised.missing) == ["--keypoints"]
    own = tmp_path / "own.toml"
    own.write_text('name = "tool"\nabout = "A tool"\nkeypoints = ["grip", "middle", "tip"]\nsigmas = 0.05\nsigmas_source = "a guess"\n')
    added = add_file(heatmaps(3), **said, keypoints=str(own))
    own.unlink()
    assert added.spec is not None
    result = PosePipeline.load(device="cpu", cache_dir=tmp_path, pose="mine")(ASTRONAUT, boxes=[[0, 0, 512, 512]])
    assert result.keypoint_set.names == ("grip", "middle", "tip")
    assert result.keypoint_set.oks_sigmas == (0.05,) * 3
    removed = posewire("models", "remove", "mine", cache_dir=str(tmp_path))
    assert removed.returncode == 0, removed.stderr
    assert [path for folder in ("weights", "cards", "keypoints") for path in (tmp_path / "models" / folder).iterdir()] == []
    assert ModelStore(installed=tmp_path / "models").manifest.models == ModelStore().manifest.models


def test_hands_are_looked_for_in_the_whole_image(add_file: AddFile) -> None:
    added = add_file(simcc(21, 256, 256), **NORMALISED)
    assert added.trial is not None
    [hand] = added.trial.result.people
    assert hand.box_xywh.tolist() == [0, 0, 512, 512]


def in_graph(order: Sequence[int]) -> bytes:
    """A network that subtracts ImageNet's means and divides, and gives keypoints."""
    mean, std = (np.array([IMAGENET[key][i] for i in order], np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    rows = np.tile(np.array([[50, 60, 0.5]], np.float32), (17, 1))
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("ReduceMean", ["normal"], ["average"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["average", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "rows"], ["output"]),
    ]
    constants: dict[str, NDArray[Any]] = {"mean": mean, "std": std, "zero": np.zeros(1, np.float32), "rows": rows[None]}
    constants["shape"] = np.array([-1, 1, 1], np.int64)
    return to_bytes(nodes, HEIGHT, WIDTH, [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 17, 3])], constants)


@pytest.mark.parametrize(("order", "colour"), [((0, 1, 2), "RGB"), ((2, 1, 0), "BGR")])
def test_normalisation_in_the_graph_is_found_with_its_order(add_file: AddFile, order: Sequence[int], colour: str) -> None:
    added = add_file(in_graph(order))
    assert added.spec is not None
    assert (added.spec.input.colour, added.spec.input.mean, added.spec.input.std) == (colour, (0, 0, 0), (1, 1, 1))
    assert any("the graph normalises" in fact.how for fact in added.recognised.facts)


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    model = onnx.load_model_from_string(content)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def ultralytics(task: str = "detect") -> bytes:
    raw = np.zeros((4 + 2, 84), np.float32)
    raw[:, 7] = 32, 32, 40, 60, 0.1, 0.9
    metadata = {"author": "Ultralytics", "task": task, "names": "{0: 'cat', 1: 'person'}", "imgsz": "[64, 64]"}
    return with_metadata(constant_network(64, 64, {"output0": raw}, batch=1), metadata)


def test_a_file_of_ultralytics_says_everything_itself(add_file: AddFile) -> None:
    added = add_file(ultralytics())
    assert added.recognised.missing == {}
    assert added.spec is not None
    assert (added.spec.task, added.spec.output.layout, added.spec.output.model_dump()["person_class"]) == ("detector", "yolov8", 1)
    assert added.trial is not None
    assert added.trial.result.people[0].box_xywh.tolist() == [12 * 8, 2 * 8, 40 * 8, 60 * 8]


def test_a_pose_model_of_one_stage_is_refused(add_file: AddFile) -> None:
    with pytest.raises(PosewireError, match="Ultralytics' task 'pose'; Posewire takes detectors, and top-down pose models"):
        add_file(ultralytics("pose"))


def test_open_sides_are_asked_for(add_file: AddFile) -> None:
    model = onnx.load_model_from_string(simcc())
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    content = model.SerializeToString()
    assert sorted(add_file(content, **NORMALISED).recognised.missing) == ["--height", "--width"]
    assert add_file(content, **NORMALISED, height=HEIGHT, width=WIDTH).spec is not None


def many_inputs() -> bytes:
    inputs = [helper.make_tensor_value_info(f"in{i}", TensorProto.FLOAT, [1, 3]) for i in range(10)]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph([helper.make_node("Identity", ["in0"], ["out"])], "many", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR).SerializeToString())


def external() -> bytes:
    model = onnx.load_model_from_string(simcc())
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    return bytes(model.SerializeToString())


def opset_99() -> bytes:
    model = onnx.load_model_from_string(simcc())
    model.opset_import[0].version = 99
    return bytes(model.SerializeToString())


def foreign() -> bytes:
    model = onnx.load_model_from_string(simcc())
    model.graph.node[0].domain = "mmdeploy"
    model.opset_import.add(domain="mmdeploy", version=1)
    return bytes(model.SerializeToString())


def channels_last() -> bytes:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64, 64, 3]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "last", infos[:1], infos[1:]), opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    return bytes(model.SerializeToString())


def batch_of_four() -> bytes:
    return constant_network(HEIGHT, WIDTH, simcc_answers(XY, np.ones(17), HEIGHT, WIDTH), batch=4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "cut short, or no ONNX file|no ONNX file"),
        (simcc()[:-1000], "cut short, or no ONNX file"),
        (many_inputs(), r"10 inputs \('in0', 'in1', 'in2', 'in3', 'in4', …\); one of images is needed"),
        (external(), r"keeps its weights in another file, 'weights.data'; make one file of both with python -c"),
        (opset_99(), "cannot be opened by ONNX Runtime: .*(opset|Opset)"),
        (foreign(), r"has operators of 'mmdeploy' \(ReduceMean\); export it again for ONNX Runtime"),
        (channels_last(), r"takes \(1, 64, 64, 3\) of tensor\(float\); images are needed: \(batch, 3, height, width\)"),
        (batch_of_four(), "takes batches of 4 only"),
        (
            constant_network(HEIGHT, WIDTH, {"features": np.zeros(1000, np.float32)}),
            r"for an input of 256x192 its outputs are features \(1000,\), which is no layout that is known",
        ),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_in_one_line(tmp_path: Path, add_file: AddFile, content: bytes, says: str) -> None:
    with pytest.raises(PosewireError, match=says) as refused:
        add_file(content, **NORMALISED)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"layout": "heatmaps"}, r"are not heatmaps; they can be simcc"),
        ({"keypoints": "coco-18"}, "not a keypoint set; known: coco-17, mpii-16"),
        ({"keypoints": "hand-21"}, "hand-21 has 21 keypoints, the file gives 17"),
        ({"keypoints": "nowhere.toml"}, "nowhere.toml"),
        ({"height": 128}, "takes images of height 256 only; leave out --height"),
        ({"std": (0.229, 0.224, 0.225)}, "is of channels 0..1; mean and std are of channels 0..255"),
        ({"outputs": ("a", "b")}, "--outputs a b: the outputs are simcc_x"),
        ({"sigma": 2.0}, r"models\[0\]\.output\.sigma: unknown key"),
    ],
)
def test_what_contradicts_the_file_is_refused(tmp_path: Path, add_file: AddFile, said: dict[str, Any], says: str) -> None:
    with pytest.raises(PosewireError, match=says):
        add_file(simcc(), **(NORMALISED | said))
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("person-nano-320", "is the name of a model that ships or can be pulled"),
        ("rtmpose-m-256x192", "is the name of a model that ships or can be pulled"),
        ("a/b", "is no name of a model"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(add_file: AddFile, name: str, says: str) -> None:
    with pytest.raises(PosewireError, match=says):
        add_file(simcc(), name=name, **NORMALISED)


def test_an_added_model_is_replaced_only_if_it_is_said(add_file: AddFile) -> None:
    add_file(simcc(), **NORMALISED)
    with pytest.raises(PosewireError, match="--replace replaces it"):
        add_file(simcc(26), **NORMALISED)
    added = add_file(simcc(26), replace=True, **NORMALISED)
    assert facts(added)["keypoints"] == "26, halpe-26"


def test_the_command_says_what_is_missing_and_what_to_do_next(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(simcc())
    asked = posewire("models", "add", str(tmp_path / "mine.onnx"), cache_dir=str(tmp_path))
    assert asked.returncode == 2
    assert "this cannot be told from the file. Say it with:" in asked.stderr
    assert [line.split()[0] for line in asked.stderr.splitlines()[1:]] == ["--mean", "--std", "--colour"]
    options = ["--mean", "123.675", "116.28", "103.53", "--std", "58.395", "57.12", "57.375", "--colour", "RGB"]
    out = ["--image", str(ASTRONAUT), "--out", str(tmp_path / "look.jpg")]
    done = posewire("models", "add", str(tmp_path / "mine.onnx"), *options, *out, cache_dir=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"look at {tmp_path / 'look.jpg'}" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["serve it with POSEWIRE_POSE=mine", "take it back with posewire models remove mine"]
    assert posewire("models", "verify", "mine", cache_dir=str(tmp_path)).stdout == "mine: ok\n"
    shipped = posewire("models", "remove", "person-nano-320", cache_dir=str(tmp_path))
    assert (shipped.returncode, shipped.stderr) == (
        1,
        "posewire: 'person-nano-320' is one of the store's own, which cannot be removed\n",
    )


@pytest.mark.skipif(not YOLOX.is_file(), reason="the published YOLOX-nano is not here")
def test_a_published_yolox_finds_the_astronaut(add_file: AddFile) -> None:
    added = add_file(YOLOX, mean=(0, 0, 0), std=(1, 1, 1), colour="BGR")
    assert facts(added)["layout"] == "yolox"
    assert added.trial is not None
    assert len(added.trial.result.people) == 1


def test_constants_of_a_graph_are_its_initializers_or_nodes(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.array([255.0], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["scale"], value=value),
        helper.make_node("Div", ["input", "scale"], ["output"]),
    ]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    (tmp_path / "a.onnx").write_bytes(to_bytes(nodes, 8, 8, outputs, {}))
    inside = read_graph(tmp_path / "a.onnx").normalisation
    assert inside is not None
    assert (inside.mean, inside.std) == ((0, 0, 0), (255, 255, 255))
