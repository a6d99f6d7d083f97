"""The folder of pulled models: its manifest reads as it was meant, and the store finds what is in it."""

import re
from pathlib import Path

import pytest

from posewire.config import load_settings
from posewire.errors import ModelError
from posewire.registry.installed import manifest_text
from posewire.registry.manifest import Manifest, load_additions, load_manifest
from posewire.registry.specs import Download, ModelSpec
from posewire.registry.store import ModelStore, default_root, open_store
from tests.compiler.archives import member
from tests.registry.conftest import WEIGHTS
from tests.registry.downloads import DETECTOR, DETECTOR_NAME, FILE, make_store, prefix

STRANGE = ['"', "\\", "\\\\u0041", "a\nb\r\n\tc", "\x7f", "\x00\x1f\x85", "'''", "#]}=", "élan \U0001f9cd", " "]


def without_defaults(root: Path) -> Path:
    """The made-up store as one that adds to the models that ship."""
    path = root / "manifest.toml"
    path.write_text("[[models]]" + path.read_text().partition("[[models]]")[2])
    return root


def shipped() -> tuple[ModelSpec, ...]:
    return ModelStore().manifest.models


@pytest.mark.parametrize("strange", STRANGE)
def test_a_written_manifest_reads_as_it_was(tmp_path: Path, strange: str) -> None:
    specs = tuple(spec.model_copy(update={"title": strange}) for spec in shipped())
    path = tmp_path / "manifest.toml"
    path.write_text(manifest_text(specs), encoding="utf-8", newline="")
    additions = load_additions(path)
    assert additions is not None
    assert additions.models == specs


def test_pulled_models_lie_beside_those_that_ship(store_root: Path) -> None:
    without_defaults(store_root)
    for store in (ModelStore(installed=store_root), ModelStore(store_root), ModelStore(make_store(store_root / "own"), store_root)):
        dot = store.manifest.get("dot", "pose")
        assert store.verified_bytes(dot) == WEIGHTS["dot.onnx"]
        assert [spec.name for spec in store.manifest.models if not store.is_installed(spec)] == [spec.name for spec in shipped()]
        store.verify(store.manifest.default("detector"))
        assert store.installed_root == store_root


def test_the_settings_lead_to_what_was_pulled(store_root: Path, tmp_path: Path) -> None:
    models = tmp_path / "cache" / "models"
    models.parent.mkdir()
    without_defaults(store_root)
    assert open_store(load_settings({}, cache_dir=models.parent)).manifest.models == shipped()
    models.symlink_to(store_root)
    assert open_store(load_settings({}, cache_dir=models.parent)).manifest.get("box", "detector").nms_iou == 0.5
    named = open_store(load_settings({}, cache_dir=models.parent, model_store=make_store(tmp_path / "own")))
    assert named.path(named.manifest.get("dot")) == models / "dot.onnx"


def test_a_name_that_ships_is_not_taken_over(store_root: Path) -> None:
    path = without_defaults(store_root) / "manifest.toml"
    path.write_text(path.read_text().replace('"dot"', f'"{ModelStore().manifest.defaults.pose}"'))
    store = ModelStore(installed=store_root)
    assert store.path(store.manifest.default("pose")).is_relative_to(default_root())


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rtmpose-t-256x192", "fetch it again with `posewire models pull rtmpose-t-256x192`"),
        ("mine", "add it again with `posewire models add FILE.onnx --name mine --replace`"),
    ],
)
def test_a_pulled_or_added_file_that_is_missing_says_how_to_get_it_again(store_root: Path, name: str, remedy: str) -> None:
    root = without_defaults(store_root)
    (root / "dot.onnx").unlink()
    path = root / "manifest.toml"
    path.write_text(path.read_text().replace('"dot"', f'"{name}"'))
    store = ModelStore(installed=store_root)
    with pytest.raises(ModelError, match=f"are missing; {remedy}"):
        store.verify(store.manifest.get(name))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nms_iou = 0.5", "nms_iou = 2", "models[1].nms_iou"),
        ('name = "box"', 'name = "dot"', "models[1].name: 'dot' is there twice"),
        ("[[models]]", "[[models]", "not valid TOML"),
        ("[[models]]", "[defaults]\n[[models]]", "has [defaults]"),
    ],
)
def test_a_broken_manifest_of_pulled_models_is_named(store_root: Path, old: str, new: str, said: str) -> None:
    path = without_defaults(store_root) / "manifest.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ModelError, match=re.escape(str(path))) as caught:
        ModelStore(installed=store_root)
    assert said in str(caught.value)


def manifest_with(tmp_path: Path, *entries: str) -> Manifest:
    return load_manifest(make_store(tmp_path / "store", *entries) / "manifest.toml")


BOX = DETECTOR.format(address="https://host/box.onnx", proof=prefix(FILE))


def test_a_model_that_can_be_pulled_says_so(tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, BOX)
    with pytest.raises(ModelError, match="'box' is not here yet; fetch it with `posewire models pull box`"):
        manifest.get("box", "detector")
    download = manifest.download("box")
    assert (download.file_name, download.sha256, download.bytes, download.variant) == ("box.onnx", None, None, None)


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        (prefix(FILE), "", "downloads[0]", "one of sha256 and sha256_prefix is needed"),
        (prefix(FILE), prefix(FILE) + f'\nsha256 = "{"0" * 64}"', "downloads[0]", "and not both"),
        (prefix(FILE), 'sha256_prefix = "0123456"', "downloads[0].sha256_prefix", "match pattern"),
        (prefix(FILE), prefix(FILE) + '\nvariant = "hrnet"', "downloads[0]", "'hrnet' is not of RTMDet; known: rtmdet-nano"),
        (prefix(FILE), prefix(FILE) + '\nvariant = "litehrnet-18"', "downloads[0]", "'litehrnet-18' is not of RTMDet"),
        (prefix(FILE), prefix(FILE) + '\nvariant = "litehrnet-18"\n' + member(FILE), "downloads[0]", "do not come in zip archives"),
        (prefix(FILE), member(FILE, name="../box.onnx"), "downloads[0].member.name", "without .."),
        (prefix(FILE), prefix(FILE) + '\nmember = { name = "a.onnx" }', "downloads[0].member.sha256", "required"),
        (
            prefix(FILE),
            prefix(FILE) + f'\nweights = {{ address = "https://host/b.bin", {prefix(FILE)} }}',
            "downloads[0]",
            "needs a variant",
        ),
        (prefix(FILE), prefix(FILE) + '\nweights = { address = "https://host/b.bin" }', "downloads[0].weights", "one of sha256"),
        (prefix(FILE), prefix(FILE) + '\nmirror_name = "../box.onnx"', "downloads[0].mirror_name", "match pattern"),
        ("https://host", "ftp://host", "downloads[0].address", "match pattern"),
        ("box.onnx", "box.onnx?x=1", "downloads[0].address", "match pattern"),
        ("host/box.onnx", "host/..", "downloads[0].address", "match pattern"),
        ("nms_iou", "nms_iuo", "downloads[0].model.nms_iuo", "unknown key"),
        ('name = "box"', f'name = "{DETECTOR_NAME}"', "downloads[0].name", f"'{DETECTOR_NAME}' is there twice"),
        ("[[downloads]]", BOX + "[[downloads]]", "downloads[1].name", "'box' is there twice"),
    ],
)
def test_a_bad_download_is_refused_with_its_key(tmp_path: Path, old: str, new: str, key: str, said: str) -> None:
    assert old in BOX
    with pytest.raises(ModelError) as caught:
        manifest_with(tmp_path, BOX.replace(old, new, 1))
    path, found, words = str(caught.value).split(": ", 2)
    assert (path, found) == (str(tmp_path / "store" / "manifest.toml"), key)
    assert said in words


@pytest.mark.parametrize("download", ModelStore().manifest.downloads, ids=lambda download: download.model.name)
def test_the_downloads_of_the_manifest_are_as_their_publishers_name_them(download: Download) -> None:
    model = download.model
    assert download.address.startswith("https://")
    assert model.accuracy
    if download.weights is not None:
        assert all(file.sha256 and file.bytes and file.address.startswith("https://") for file in download.files)
        assert [file.file_name for file in download.files] == [f"{model.name}.xml", f"{model.name}.bin"]
    elif model.task == "pose" and download.variant is not None:
        size = f"{model.input.height}x{model.input.width}"
        layers = download.variant.removeprefix("litehrnet-")
        assert download.file_name.startswith(f"litehrnet{layers}_")
        assert f"_{size}-{download.sha256_prefix}_" in download.file_name
        assert model.name.endswith(size)
    elif download.member is None:
        assert download.sha256
        assert download.bytes
