"""Models of raw pixels and of keypoints, from the manifest to the HTTP answer: served like the plain one."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest

from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.errors import ConfigError, ModelError
from posewire.registry.installed import manifest_text
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.registry.specs import ModelSpec, PoseSpec
from posewire.registry.store import ModelStore
from posewire.server.app import create_app
from posewire.telemetry.metrics import Metrics
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.types import InputFormat
from tests.compiler.test_graph import HEIGHT, WIDTH, random_state

SHIPPED = ModelStore()
SIGMA = 1.5
MEAN, STD = (100.5, 121.25, 90.125), (50.0, 61.5, 44.25)
BOXES = [[30, 0, 400, 512], [100, 50, 150, 200], [-20, 300, 100, 300]]

Colour = Literal["RGB", "BGR"]
Form = tuple[InputFormat, Literal["heatmaps", "keypoints"], Colour]
FORMS: dict[str, Form] = {
    "plain": ("float32-nchw", "heatmaps", "RGB"),
    "plain-bgr": ("float32-nchw", "heatmaps", "BGR"),
    "nhwc": ("uint8-nhwc", "heatmaps", "RGB"),
    "nchw": ("uint8-nchw", "heatmaps", "RGB"),
    "nhwc-bgr": ("uint8-nhwc", "heatmaps", "BGR"),
    "keypoints": ("float32-nchw", "keypoints", "RGB"),
    "nchw-bgr-keypoints": ("uint8-nchw", "keypoints", "BGR"),
}


def add_model(root: Path, name: str, form: InputFormat, output: Literal["heatmaps", "keypoints"], colour: Colour) -> ModelSpec:
    variant = get_variant("naive-litehrnet-18")
    raw: dict[str, Any] = {} if form == "float32-nchw" else {"mean": MEAN, "std": STD}
    options = GraphOptions(form, output=output, sigma=SIGMA if output == "keypoints" else None, **raw)
    content = compile_graph(variant, random_state(variant), HEIGHT, WIDTH, options).SerializeToString()
    (root / f"{name}.onnx").write_bytes(content)
    described: dict[str, Any] = SHIPPED.manifest.default("pose").model_dump() | {
        "name": name,
        "file": f"{name}.onnx",
        "kernels": None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "keypoints": "coco17",
        "input": {"format": form, "height": HEIGHT, "width": WIDTH, "colour": colour, "mean": MEAN, "std": STD},
        "output": {"layout": output, "sigma": SIGMA} | ({"stride": 4, "flip_shift": 1} if output == "heatmaps" else {}),
    }
    return PoseSpec.model_validate(described)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    detector = SHIPPED.manifest.default("detector")
    (root / detector.file).parent.mkdir()
    for stored in detector.files:
        shutil.copy(SHIPPED.root / stored.file, root / stored.file)
    specs = (detector, *(add_model(root, name, *form) for name, form in FORMS.items()))
    defaults = f'[defaults]\ndetector = "{detector.name}"\npose = "plain"\n'
    (root / "manifest.toml").write_text(defaults + manifest_text(specs))
    return root


async def answered(store: Path, pose: str, image: bytes, **more: Any) -> Any:
    """Places and scores of everyone in the boxes, (people, keypoints, 3)."""
    app = create_app(load_settings({}, model_store=store, pose=pose, max_batch=1, **more))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client,
    ):
        ready = await client.get("/readyz")
        assert ready.status_code == 200, ready.text
        answer = await client.post("/v1/pose", params={"boxes": json.dumps(BOXES)}, content=image, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200, answer.text
    people = answer.json()["images"][0]["people"]
    return np.array([[[point[key] for key in ("x", "y", "score")] for point in person["keypoints"]] for person in people])


@pytest.mark.parametrize(
    ("name", "like"),
    [("nhwc", "plain"), ("nchw", "plain"), ("nhwc-bgr", "plain-bgr"), ("keypoints", "plain"), ("nchw-bgr-keypoints", "plain-bgr")],
)
async def test_every_form_answers_as_the_plain_model(store: Path, astronaut: bytes, name: str, like: str) -> None:
    expected = await answered(store, like, astronaut)
    found = await answered(store, name, astronaut)
    assert expected.shape == (len(BOXES), 17, 3)
    assert np.ptp(expected[..., 0], 1).min() > 10  # the keypoints are not all in one place
    assert np.abs(found - expected).max() < 0.05  # pixels of the image: a crop's pixel is up to 7 of them


async def test_colours_matter(store: Path, astronaut: bytes) -> None:
    """Else the models of BGR would prove nothing."""
    assert np.abs(await answered(store, "plain", astronaut) - await answered(store, "plain-bgr", astronaut)).max() > 1


async def test_a_flip_test_of_raw_pixels_mirrors_the_right_axis(store: Path, astronaut: bytes) -> None:
    expected = await answered(store, "plain", astronaut, flip_test=True)
    assert np.abs(expected - await answered(store, "plain", astronaut)).max() > 1
    for name in ("nhwc", "nchw"):
        assert np.abs(await answered(store, name, astronaut, flip_test=True) - expected).max() < 0.05


@pytest.mark.parametrize(("setting", "words"), [({"flip_test": True}, "flip test"), ({"decoding": "quarter"}, "decoding quarter")])
def test_what_needs_heatmaps_is_refused(store: Path, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words}.*keypoints only: choose a model of heatmaps"):
        load_engine(load_settings({}, model_store=store, pose="keypoints", **setting), Metrics())


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("nhwc", 'format = "uint8-nhwc"', 'format = "float32-nchw"', r"\(float32-nchw\); the file takes \(96, 64, 3\) of tensor\(uint8\)"),
        ("nhwc", 'format = "uint8-nhwc"', 'format = "uint8-nchw"', r"\(3, 96, 64\) of tensor\(uint8\) \(uint8-nchw\); the file takes"),
        ("plain", "height = 96", "height = 128", r"\(3, 128, 64\) .* the file takes \(3, 96, 64\)"),
        ("plain", "stride = 4", "stride = 2", r"\(17, 48, 32\) \(heatmaps\); the file gives \(17, 24, 16\)"),
        ("keypoints", 'layout = "keypoints"\nsigma = 1.5', 'layout = "heatmaps"\nsigma = 1.5\nstride = 4\nflip_shift = 1', "gives"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    store: Path, tmp_path: Path, name: str, old: str, new: str, words: str
) -> None:
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    before, entry, after = (tmp_path / "manifest.toml").read_text().partition(f'name = "{name}"')
    assert old in after
    (tmp_path / "manifest.toml").write_text(before + entry + after.replace(old, new, 1))
    with pytest.raises(ModelError, match=f"^{name}: by the manifest .*{words}"):
        load_engine(load_settings({}, model_store=tmp_path, pose=name), Metrics())
