from pathlib import Path

import pytest

from posewire.errors import ModelError
from posewire.registry.manifest import load_manifest
from posewire.registry.specs import DetectorSpec, HeatmapOutput, PoseSpec

PAIR = '[pairs.both]\ndetector = "box"\npose = "dot"\nabout = "for tests"\n'


def refusal(root: Path, old: str, new: str) -> str:
    """What `load_manifest` says about the store's manifest when `old` becomes `new`."""
    path = root / "manifest.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        load_manifest(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_every_value_is_the_files(store_root: Path) -> None:
    manifest = load_manifest(store_root / "manifest.toml")
    pose, detector = manifest.models
    assert isinstance(pose, PoseSpec)
    assert (pose.name, pose.file, pose.card, pose.accuracy) == ("dot", "dot.onnx", "dot.md", ())
    assert (pose.input.height, pose.input.width, pose.input.colour) == (64, 48, "RGB")
    assert (pose.input.mean, pose.input.std) == ((1, 2, 3), (4, 5, 6))
    assert isinstance(pose.output, HeatmapOutput)
    assert (pose.output.stride, pose.output.sigma, pose.output.flip_shift) == (2, 1.5, 1)
    assert isinstance(detector, DetectorSpec)
    assert (detector.input.height, detector.input.width, detector.input.colour) == (96, 160, "BGR")
    assert (detector.output.layout, detector.output.strides, detector.output.person_class) == ("yolox", (8, 16, 32), 0)
    assert (detector.pad_value, detector.nms_iou) == (114, 0.5)


def test_the_coco_keypoints_hang_together(store_root: Path) -> None:
    keypoints = load_manifest(store_root / "manifest.toml").get("dot", "pose").keypoints
    names = keypoints.names
    assert len(names) == len(set(names)) == len(keypoints.oks_sigmas) == 17
    assert {(names[left], names[right]) for left, right in keypoints.flip_pairs} == {
        (name, name.replace("left", "right")) for name in names if name.startswith("left")
    }
    sigma = dict(zip(names, keypoints.oks_sigmas, strict=True))
    assert all(sigma[names[left]] == sigma[names[right]] for left, right in keypoints.flip_pairs)
    assert (sigma["nose"], sigma["left_hip"], sigma["right_wrist"]) == (0.026, 0.107, 0.062)
    edges = {frozenset((names[a], names[b])) for a, b in keypoints.skeleton}
    assert len(edges) == len(keypoints.skeleton) == 19
    assert {name for edge in edges for name in edge} == set(names)
    mirror = dict(zip(names, names, strict=True))
    for left, right in keypoints.flip_pairs:
        mirror[names[left]], mirror[names[right]] = names[right], names[left]
    assert {frozenset(mirror[name] for name in edge) for edge in edges} == edges


def test_defaults_and_names(store_root: Path) -> None:
    manifest = load_manifest(store_root / "manifest.toml")
    assert manifest.default("pose") is manifest.get("dot") is manifest.get("dot", "pose")
    assert manifest.default("detector") is manifest.get("box")
    with pytest.raises(ModelError, match=r"'dott' is not a model of the manifest; known: dot, box"):
        manifest.get("dott")
    with pytest.raises(ModelError, match=r"'box' is not a pose model of the manifest; known: dot$"):
        manifest.get("box", "pose")


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("nms_iou = 0.5", "nms_iou = 1.5", "models[1].nms_iou", "less than or equal to 1"),
        ("nms_iou = 0.5", "nms_iuo = 0.5", "models[1].nms_iuo", "unknown key"),
        ("nms_iou = 0.5", "", "models[1].nms_iou", "required"),
        ('detector = "box"', 'detecter = "box"', "defaults.detecter", "unknown key"),
        ("height = 64", "height = 0", "models[0].input.height", "greater than 0"),
        ("height = 64", "height = 64, depth = 3", "models[0].input.depth", "unknown key"),
        ("std = [4, 5, 6]", "std = [4, 5, 0]", "models[0].input.std[2]", "greater than 0"),
        ("mean = [1, 2, 3]", "mean = [1, 2, nan]", "models[0].input.mean[2]", "finite"),
        ('colour = "RGB"', 'colour = "GRB"', "models[0].input.colour", "'RGB' or 'BGR'"),
        ("flip_shift = 1", "flip_shift = 2", "models[0].output.flip_shift", "0 or 1"),
        ('layout = "yolox"', 'layout = "yolox", strides = []', "models[1].output.strides", "at least 1"),
        ('"coco-17"', '"coco-18"', "models[0].keypoints", "'coco-18' is not a keypoint set; known: coco-17"),
        ('sha256 = "', 'sha256 = "z', "models[0].sha256", "match pattern"),
        ("bytes = ", "bytes = -", "models[0].bytes", "greater than 0"),
        ('task = "pose"', 'task = "paint"', "models[0]", "'pose', 'detector'"),
        ('file = "dot.onnx"', 'file = "../dot.onnx"', "models[0].file", "inside the manifest's folder"),
        ('file = "dot.onnx"', 'file = "a/../../dot.onnx"', "models[0].file", "inside the manifest's folder"),
        ('file = "dot.onnx"', 'file = "/etc/dot.onnx"', "models[0].file", "inside the manifest's folder"),
        ('file = "dot.onnx"', "file = 'a\\..\\..\\dot.onnx'", "models[0].file", "inside the manifest's folder"),
        ('file = "dot.onnx"', "file = 'C:\\dot.onnx'", "models[0].file", "inside the manifest's folder"),
        ('card = "dot.md"', 'card = "../dot.md"', "models[0].card", "inside the manifest's folder"),
        ('name = "box"', 'name = "dot"', "models[1].name", "'dot' is there twice"),
        ('pose = "dot"', 'pose = "tod"', "defaults.pose", "'tod' is not a pose model of the manifest; known: dot"),
        ('pose = "dot"', 'pose = "box"', "defaults.pose", "'box' is not a pose model of the manifest; known: dot"),
        ('detector = "box"', 'detector = "dot"', "defaults.detector", "'dot' is not a detector model of the manifest; known: box"),
        ("[defaults]", PAIR.replace("box", "dot") + "[defaults]", "pairs.both.detector", "'dot' is not a detector model of the manifest"),
        ("[defaults]", PAIR.replace("dot", "tod") + "[defaults]", "pairs.both.pose", "'tod' is not a pose model of the manifest"),
        ("[defaults]", PAIR.replace("about", "abuot") + "[defaults]", "pairs.both.abuot", "unknown key"),
        ("[defaults]", PAIR.replace("both", "default") + "[defaults]", "pairs.default", "stands for the manifest's [defaults]"),
        ("[defaults]", PAIR.replace("both", '"b h"') + "[defaults]", "pairs.b h.[key]", "match pattern"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(store_root: Path, old: str, new: str, key: str, said: str) -> None:
    found, _, message = refusal(store_root, old, new).partition(": ")
    assert found == key
    assert said in message


def test_bad_toml_is_refused_with_its_line(store_root: Path) -> None:
    assert "not valid TOML" in (message := refusal(store_root, '"box"', "box"))
    assert "line 2" in message


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not valid TOML"):
        load_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.toml: there is no such manifest"):
        load_manifest(tmp_path / "nowhere.toml")


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        load_manifest(tmp_path)


def test_a_digest_may_be_in_upper_case(store_root: Path) -> None:
    path = store_root / "manifest.toml"
    digest = load_manifest(path).get("dot").sha256
    path.write_text(path.read_text().replace(digest, digest.upper()))
    assert load_manifest(path).get("dot").sha256 == digest
