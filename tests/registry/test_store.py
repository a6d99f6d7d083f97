from pathlib import Path

import onnxruntime
import pytest

from posewire.errors import ModelError
from posewire.registry.specs import DetectorSpec, HeatmapOutput, ModelSpec, PoseSpec
from posewire.registry.store import ModelStore, default_root

SHIPPED = ModelStore()
each_shipped = pytest.mark.parametrize("spec", SHIPPED.manifest.models, ids=lambda spec: spec.name)


def refusal(root: Path) -> str:
    """What the store says about the weights of `dot`."""
    store = ModelStore(root)
    spec = store.manifest.get("dot")
    with pytest.raises(ModelError) as caught:
        store.verify(spec)
    with pytest.raises(ModelError):
        store.verified_bytes(spec)
    return str(caught.value)


@each_shipped
def test_shipped_weights_and_cards_are_there(spec: ModelSpec) -> None:
    SHIPPED.verify(spec)
    assert SHIPPED.verified_bytes(spec) == SHIPPED.path(spec).read_bytes()
    card = (SHIPPED.root / spec.card).read_text(encoding="utf-8")
    assert card.startswith(f"# {spec.name}\n")
    for accuracy in spec.accuracy:
        assert f"{accuracy.value:g}" in card, "the card's numbers are the manifest's"


@each_shipped
def test_shipped_graphs_have_the_manifests_shapes(spec: ModelSpec) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    height, width = spec.input.height, spec.input.width
    for dimension, length in (("height", height), ("width", width)):  # a detector's file leaves them open
        options.add_free_dimension_override_by_name(dimension, length)
    session = onnxruntime.InferenceSession(SHIPPED.verified_bytes(spec), options, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    pixels = spec.input.format == "uint8-nhwc"
    assert (taken.type, given.type) == ("tensor(uint8)" if pixels else "tensor(float)", "tensor(float)")
    assert taken.shape[1:] == ([height, width, 3] if pixels else [3, height, width])
    if isinstance(spec, PoseSpec):
        assert isinstance(spec.output, HeatmapOutput)
        assert given.shape[1:] == [len(spec.keypoints.names), height // spec.output.stride, width // spec.output.stride]
    if isinstance(spec, DetectorSpec):
        assert given.shape[1:] == [sum((height // s) * (width // s) for s in spec.output.strides), 5]


def test_whole_weights_are_returned(store_root: Path) -> None:
    store = ModelStore(store_root)
    assert store.path(store.manifest.get("dot")) == store_root / "dot.onnx"
    assert store.verified_bytes(store.manifest.get("dot")) == b"a pose model, honestly"


def test_a_flipped_bit_is_refused(store_root: Path) -> None:
    path = store_root / "dot.onnx"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    message = refusal(store_root)
    assert f"{path}: expected SHA-256 {ModelStore(store_root).manifest.get('dot').sha256}, found " in message
    assert f"`git checkout -- {path}`" in message


@pytest.mark.parametrize(("content", "size"), [(b"a pose", 6), (b"", 0), (b"a pose model, honestly!", 23)])
def test_a_wrong_size_is_refused(store_root: Path, content: bytes, size: int) -> None:
    path = store_root / "dot.onnx"
    path.write_bytes(content)
    message = refusal(store_root)
    assert f"{path}: expected 22 bytes, found {size}; reinstall posewire" in message
    assert "fetch the file again" in message


def test_missing_weights_are_refused(store_root: Path) -> None:
    path = store_root / "dot.onnx"
    path.unlink()
    assert f"{path}: the weights of dot are missing; reinstall posewire" in refusal(store_root)


def test_a_folder_in_place_of_the_weights_is_refused(store_root: Path) -> None:
    path = store_root / "dot.onnx"
    path.unlink()
    path.mkdir()
    assert f"{path}: the weights of dot cannot be read: Is a directory" in refusal(store_root)


def test_a_git_lfs_pointer_is_told_apart(store_root: Path) -> None:
    path = store_root / "dot.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 22\n")
    message = refusal(store_root)
    assert f"{path}: a Git LFS pointer" in message
    assert "`git lfs pull`" in message


def test_another_model_is_an_edit_of_the_manifest(store_root: Path) -> None:
    path = store_root / "manifest.toml"
    text = path.read_text().replace('pose = "dot"', 'pose = "point"').replace('name = "dot"', 'name = "point"')
    path.write_text(text.replace("height = 64, width = 48", "height = 256, width = 192").replace('"dot.onnx"', '"deep/point.onnx"'))
    (store_root / "deep").mkdir()
    (store_root / "dot.onnx").rename(store_root / "deep" / "point.onnx")
    store = ModelStore(store_root)
    spec = store.manifest.default("pose")
    assert (spec.name, spec.input.height, spec.input.width) == ("point", 256, 192)
    assert store.verified_bytes(spec) == b"a pose model, honestly"


def test_an_installed_store_wins_over_the_checkouts(tmp_path: Path) -> None:
    package = tmp_path / "service" / "posewire"
    for root in (tmp_path / "model_store", package / "_model_store"):
        root.mkdir(parents=True)
        (root / "manifest.toml").touch()
    assert default_root(package) == package / "_model_store"
    (package / "_model_store" / "manifest.toml").unlink()
    assert default_root(package) == tmp_path / "model_store"


def test_no_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"neither .*_model_store nor .*model_store has a manifest\.toml; reinstall posewire, or set POSEWIRE_MODEL_STORE"
    ):
        default_root(tmp_path / "service" / "posewire")


def test_a_store_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.toml: there is no such manifest"):
        ModelStore(tmp_path)
