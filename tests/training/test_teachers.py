"""Teachers: files that are run, and modules that are rebuilt of them."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from posewire.errors import PosewireError
from tests.training.shared import shared

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
files: Any = importlib.import_module("model_store.training.teachers.files")
modules: Any = importlib.import_module("model_store.training.teachers.modules")
opening: Any = importlib.import_module("model_store.training.teachers.opening")
rtmdet: Any = importlib.import_module("model_store.training.teachers.rtmdet")
tinypose: Any = importlib.import_module("model_store.training.teachers.tinypose")
student: Any = importlib.import_module("model_store.training.rtmdet")
litehrnet: Any = importlib.import_module("model_store.training.litehrnet")
networks: Any = importlib.import_module("model_store.training.networks")
recipes: Any = importlib.import_module("model_store.training.recipe")


def tiny(path: Path, batch: int | str = 1, size: int | str = 8) -> Path:
    """A file that doubles its images, and then adds one."""
    shape = [batch, 3, size, size]
    nodes = [helper.make_node("Mul", ["x", "two"], ["doubled"]), helper.make_node("Add", ["doubled", "one"], ["y"])]
    values = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("two", 2), ("one", 1))]
    source, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, "tiny", [source], [result], values), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
        ),
        path,
    )
    return path


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_a_file_gives_its_answer_and_the_maps_that_are_asked_for(tmp_path: Path, batch: int | str) -> None:
    teacher = files.FileTeacher(tiny(tmp_path / "t.onnx", batch), ["y"], {"a.b": ["doubled"], "c": ["doubled", "y"]})
    images = torch.randn(3, 3, 8, 8)
    taught = teacher(images)
    torch.testing.assert_close(taught.answer[0], 2 * images + 1)
    assert {place: len(maps) for place, maps in taught.maps.items()} == {"a.b": 1, "c": 2}
    torch.testing.assert_close(taught.maps["c"][0], 2 * images)


def test_a_file_for_another_size_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    teacher = files.FileTeacher(tiny(tmp_path / "t.onnx"), ["y"], {})
    with pytest.raises(PosewireError, match="takes images of 8x8, the stage has 16x8"):
        teacher(torch.zeros(1, 3, 16, 8))
    with pytest.raises(PosewireError, match=r"none\.onnx cannot be read"):
        files.FileTeacher(tmp_path / "none.onnx", ["y"], {})
    with pytest.raises(PosewireError, match=r"t\.onnx cannot be read"):
        files.FileTeacher(tiny(tmp_path / "t.onnx"), ["y"], {"a": ["nowhere"]})
    with pytest.raises(PosewireError, match=r"t\.onnx"):
        rtmdet.rebuild(tiny(tmp_path / "t.onnx"))
    with pytest.raises(PosewireError, match=r"t\.onnx is not rtmdet-nano: it has no /model/neck/out_convs"):
        rtmdet.run_file(tiny(tmp_path / "t.onnx"), ["neck.out_convs.0"])
    (tmp_path / "u.onnx").write_bytes(b"no model")
    with pytest.raises(PosewireError, match=r"u\.onnx: not an ONNX file"):
        rtmdet.rebuild(tmp_path / "u.onnx")
    with pytest.raises(PosewireError, match=r"none\.onnx cannot be read: No such file"):
        rtmdet.rebuild(tmp_path / "none.onnx")


def test_an_openvino_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PosewireError, match=r"none\.xml (cannot be read: there is no such file|needs OpenVINO)"):
        tinypose.rebuild(tmp_path / "none.xml")


def exported(path: Path, network: Any) -> Path:
    """RTMDet-nano as deployed files have it: norms folded in, layers named by the modules that they came from."""
    names = {module: name for name, module in network.named_modules()}
    nodes, values = [], []
    for module, name in names.items():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        weight, bias = module.weight, module.bias
        if bias is None:
            norm = network.get_submodule(f"{name.removesuffix('.conv')}.bn")
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight, bias = weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        layer = name.removeprefix("bbox_head.")
        for scope in ("stem", "stage1", "stage2", "stage3", "stage4", "blocks"):
            layer = layer.replace(f"{scope}.", f"{scope}/{scope}.")
        layer = re.sub(r"\.(?=\D)", "/", layer)  # numbers stay with what is before them
        values += [numpy_helper.from_array(v.detach().numpy(), f"{name}.{part}") for v, part in ((weight, "w"), (bias, "b"))]
        nodes.append(helper.make_node("Conv", [name, f"{name}.w", f"{name}.b"], [f"{name}.out"], name=f"/model/{layer}/Conv"))
    onnx.save(helper.make_model(helper.make_graph(nodes, "folded", [], [], values)), path)
    return path


def test_folded_weights_are_the_network_that_they_came_from(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = student.build("rtmdet-nano")
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for values, low, high in (
                (norm.running_var, 0.5, 2),
                (norm.running_mean, -0.2, 0.2),
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.2, 0.2),
            ):
                torch.nn.init.uniform_(values, low, high)
    rebuilt = rtmdet.rebuild(exported(tmp_path / "folded.onnx", network))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        for own, wanted in zip(rebuilt(images), network.eval()(images), strict=True):
            torch.testing.assert_close(own, wanted, atol=1e-4, rtol=1e-4)


def assert_same(own: Any, wanted: Any) -> None:
    """Within 1e-4, or a hundred-thousandth of larger numbers."""
    for a, b in zip(own.answer, wanted.answer, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)
    assert own.maps.keys() == wanted.maps.keys()
    for place, maps in own.maps.items():
        for a, b in zip(maps, wanted.maps[place], strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(128, 96), (256, 192)])
def test_tinypose_as_a_module_is_the_file(height: int, width: int) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: PP-TinyPose is not read")
    file = shared(f"teachers/tinypose-{height}x{width}.xml")
    places = litehrnet.meeting_places(networks.build("wider-naive-litehrnet-18"), "modules")
    how = recipes.PoseDistillation()
    module, as_file = (opening.open_pose_teacher(how.model_copy(update={"runs": runs}), file, places) for runs in ("module", "file"))
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert len(places) == 8
    assert_same(module(images), as_file(images))
    with pytest.raises(PosewireError, match=r"does not name the maps of backbone\.stage0\.0\.layers"):
        tinypose.run_file(file, litehrnet.meeting_places(networks.build("wider-naive-litehrnet-18"), "blocks"))
    with pytest.raises(PosewireError, match="the recipe asks for litehrnet-18"):
        opening.open_pose_teacher(how.model_copy(update={"network": "litehrnet-18"}), file, places)


def test_rtmdet_as_a_module_is_the_file() -> None:
    file = shared("teachers/rtmdet-nano-person.onnx")
    places = student.meeting_places(student.build("rtmdet-nano"), "blocks")
    how = recipes.DetectorDistillation()
    module, as_file = (opening.open_detector_teacher(how.model_copy(update={"runs": runs}), file, places) for runs in ("module", "file"))
    images = torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    assert len(places) == 19
    assert_same(module(images), as_file(images))


def test_a_published_file_becomes_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = student.build("rtmdet-nano").eval()
    exported(tmp_path / "folded.onnx", network)
    command = [sys.executable, "-m", "model_store.training.teachers", str(tmp_path / "folded.onnx"), "--out", str(tmp_path / "t.pt")]
    subprocess.run(command, check=True)
    places = student.meeting_places(network, "modules")
    teacher = opening.open_detector_teacher(recipes.DetectorDistillation(), tmp_path / "t.pt", places)
    images = torch.randn(1, 3, 64, 64)
    assert_same(teacher(images), modules.ModuleTeacher(network, places)(images))
    with pytest.raises(PosewireError, match="cannot be run as it is"):
        opening.open_detector_teacher(recipes.DetectorDistillation(runs="file"), tmp_path / "t.pt", places)
    wrong = subprocess.run([*command[:3], "t.bin", *command[4:]], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr == "t.bin is neither an OpenVINO IR (.xml) nor ONNX (.onnx)\n"


@pytest.mark.parametrize("name", ["pose-128x96.last.pt", "detector.last.pt"])
def test_the_first_scripts_checkpoints_are_beginnings(name: str) -> None:
    checkpoints: Any = importlib.import_module("model_store.training.checkpoints")
    file = shared(f"weights/{name}")
    network = student.build("rtmdet-nano-lean") if name.startswith("detector") else networks.build("wider-naive-litehrnet-18")
    before = [value.clone() for value in network.state_dict().values()]
    checkpoints.load_weights(file, network, student.published_name)
    assert any(not torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))
