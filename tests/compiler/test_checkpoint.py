import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.errors import ModelError
from posewire.registry.weights.tensors import Array
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint, require
from tests.compiler.checkpoint_files import call, entry, floats, legacy_file, read, safetensors_file, tensor, zip_file

DATA = Path(__file__).parent / "data"
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "weights" / "litehrnet18-128x96.pth"


@pytest.mark.parametrize("name", ["torch-zip.pth", "torch-legacy.pth"])
def test_what_torch_wrote_is_read_number_by_number(name: str) -> None:
    base = np.arange(24, dtype=np.float32)
    expected: dict[str, Array] = {
        "backbone.full.weight": base.reshape(2, 3, 4),
        "backbone.turned.weight": base.reshape(2, 3, 4).transpose(2, 0, 1),
        "backbone.stepped.bias": base[1::5],
        "backbone.half.weight": (np.arange(6) / 4).astype(np.float16).reshape(2, 3),
        "backbone.brain.weight": (np.arange(6, dtype=np.float32) / 4 - 1).reshape(3, 2).T,
        "backbone.double.weight": np.arange(3) / 3,
        "backbone.index": np.array([-2, 0, 2]),
        "backbone.scalar": np.array(1.5, np.float32),
        "backbone.empty": np.empty((0, 3), np.float32),
        "backbone.flags": np.array([True, False]),
        "final_layer.weight": np.full((17, 2, 1, 1), 0.5, np.float32),
        "final_layer.bias": np.arange(17, dtype=np.float32),
    }
    state = read_checkpoint(DATA / name)
    assert list(state) == list(expected)
    for key, array in expected.items():
        assert state[key].dtype == array.dtype, key
        assert state[key].flags.c_contiguous, key
        np.testing.assert_array_equal(state[key], array, err_msg=key, strict=True)


def test_tensors_that_shared_a_storage_are_apart() -> None:
    state = read_checkpoint(DATA / "torch-zip.pth")
    state["backbone.full.weight"][:] = 0
    assert state["backbone.turned.weight"].max() == 23


@pytest.mark.skipif(not PUBLISHED.is_file(), reason=f"{PUBLISHED} is not here")
def test_a_whole_network_in_the_published_layout_is_read() -> None:
    state = read_checkpoint(PUBLISHED)
    assert state["backbone.stem.conv1.conv.weight"].shape == (32, 3, 3, 3)
    assert state["final_layer.weight"].shape == (17, 40, 1, 1)
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
    assert len(require(state, {name: array.shape for name, array in state.items()})) == len(state) == 1214


@pytest.mark.parametrize("top", ["archive", "litehrnet_18_coco_256x192", "ünï çode"])
def test_the_archive_may_have_any_name(tmp_path: Path, top: str) -> None:
    state = read(tmp_path, zip_file({"backbone.a": tensor()}, top=top))
    assert state["backbone.a"].tolist() == [0, 1, 2, 3]


def test_big_endian_archives_are_read(tmp_path: Path) -> None:
    tree = {"a": tensor(), "b": tensor(key="1", kind="torch.BFloat16Storage", numel=2, size=(2,))}
    storages = {"0": floats(0, 1, 2, 3, order=">"), "1": struct.pack(">HH", 0x3FC0, 0xC000)}
    state = read(tmp_path, zip_file(tree, storages, order="big"))
    assert (state["a"].tolist(), state["b"].tolist()) == ([0, 1, 2, 3], [1.5, -2])
    assert state["a"].dtype.isnative


def test_safetensors_are_read(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "keypoint_head.final_layer.bias": entry(2, begin=16, end=24),
        "backbone.a": entry(2, 2),
        "backbone.none": entry(0, 3, begin=24, end=24),
        "backbone.brain": entry(2, dtype="BF16", begin=24, end=28),
    }
    content = floats(0, 1, 2, 3, 4, 5) + struct.pack("<HH", 0x3FC0, 0xC000)
    state = read(tmp_path, safetensors_file(header, content))
    assert {name: array.tolist() for name, array in state.items()} == {
        "final_layer.bias": [4, 5],
        "backbone.a": [[0, 1], [2, 3]],
        "backbone.none": [],
        "backbone.brain": [1.5, -2],
    }
    assert state["backbone.none"].shape == (0, 3)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", ["keypoint_head.", "head.", ""])
def test_published_layouts_get_the_same_names(tmp_path: Path, prefix: str, head: str) -> None:
    names = ["backbone.stem.conv1.bn.num_batches_tracked", "backbone.stem.conv1.conv.weight", f"{head}final_layer.weight"]
    state = read(tmp_path, zip_file({f"{prefix}{name}": tensor() for name in names}))
    assert list(state) == ["backbone.stem.conv1.conv.weight", "final_layer.weight"]


@pytest.mark.parametrize("file", [zip_file, legacy_file])
@pytest.mark.parametrize("place", ["state_dict", "model", None])
def test_the_state_dict_is_found(tmp_path: Path, file: Any, place: str | None) -> None:
    state = {"a": call("torch._utils._rebuild_parameter", tensor(), True, {})}
    tree = {place: state, "ema": {"b": tensor()}} if place else state
    assert list(read(tmp_path, file(tree))) == ["a"]


def test_a_training_is_read_by_its_averaged_weights(tmp_path: Path) -> None:
    assert list(read(tmp_path, zip_file({"m": {"a": tensor()}, "ema": {"b": tensor()}, "seen": 3}))) == ["b"]


def test_what_the_network_needs_comes_as_float32() -> None:
    state: dict[str, Array] = {"half": np.ones((2, 1), np.float16), "double": np.full(3, 0.1), "float": np.zeros((), np.float32)}
    given = require(state, {"float": (), "double": (3,), "half": (2, 1)})
    assert list(given) == ["float", "double", "half"]
    assert {array.dtype for array in given.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(given["double"], 0.1)


def test_every_name_is_accounted_for() -> None:
    state: dict[str, Array] = {
        "turned": np.zeros((2, 3), np.float32),
        "whole": np.zeros(1, np.int64),
        "nan": np.array([0, np.nan], np.float32),
        "large": np.array([1e300]),
        **{f"more{i}": np.zeros(1, np.float32) for i in range(7)},
    }
    expected = {"turned": (3, 2), "whole": (1,), "nan": (2,), "large": (1,), "gone": (4,)}
    with pytest.raises(ModelError) as caught:
        require(state, expected, source=Path("weights/some.pth"))
    assert str(caught.value) == (
        "weights/some.pth: not this network's weights: 1 missing ('gone'); "
        "7 unexpected ('more0', 'more1', 'more2', 'more3', 'more4', …); 1 of another shape ('turned' is (2, 3), not (3, 2)); "
        "1 not floats ('whole' is int64); 2 not finite ('nan', 'large')"
    )


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"meta": {}}, "no state dict"),
        ([tensor()], "holds of type list"),
        (call("torch.nn.Module"), "made by 'torch.nn.Module'"),
        ({"model": call("ultralytics.nn.tasks.PoseModel")}, "'model' is made by 'ultralytics.nn.tasks.PoseModel'"),
        ({"state_dict": {"a": tensor(), "b": 1}}, "'b' of the state dict is not a tensor but of type int"),
        ({"state_dict": {"a": tensor(), 1: tensor()}}, "a key that is not a name"),
        ({"state_dict": {"x" * 5000: tensor()}}, "a key that is not a name"),
        ({"head.final_layer.bias": tensor(), "module.final_layer.bias": tensor()}, "two tensors of the state dict are the network's"),
        ({"line\nbreak": 1, "a": tensor()}, r"'line\nbreak' of the state dict is not a tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, tree: object, words: str) -> None:
    with pytest.raises(ModelError, match=rf"^{re.escape(str(tmp_path / 'made.pth'))}: .*{re.escape(words)}"):
        read(tmp_path, zip_file(tree))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(ModelError, match=re.escape(str(path))):
            read_checkpoint(path)
