from pathlib import Path

import pytest

import model_store.training.recipe as recipes
from model_store.training import toml
from posewire.errors import PosewireError
from posewire.registry.networks.litehrnet.spec import VARIANTS

SHIPPED = Path(recipes.__file__).with_name("recipes")
STAGE = "[[stages]]\nheight = 64\nwidth = 64\nsigma = 1.0\nsamples = 100\n"


@pytest.mark.parametrize("name", ["litehrnet18", "litehrnet18-anneal", "litehrnet18-distilled", "pose-128x96", "pose-256x192"])
def test_shipped_pose_recipes_are_valid(name: str) -> None:
    recipe = toml.load(SHIPPED / f"{name}.toml", recipes.PoseRecipe)
    assert recipe.network in VARIANTS
    # The sigmas that the service decodes with.
    assert all(stage.sigma == pytest.approx(2.3 * stage.height / 256) for stage in recipe.stages)


def test_the_shipped_detector_recipe_is_valid_and_ends_without_mosaics() -> None:
    assert toml.load(SHIPPED / "detector.toml", recipes.DetectorRecipe).stages[-1].mosaic == 0


def test_the_shipped_blockwise_detector_learns_from_its_teacher_alone() -> None:
    recipe = toml.load(SHIPPED / "detector-blockwise.toml", recipes.DetectorRecipe)
    assert recipe.distillation is not None
    assert recipe.distillation.label == 0
    assert recipe.distillation.own == (0, 1)


def test_adapters_go_with_own_maps_only(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(f"{STAGE}[distillation]\nadapters = true\n")
    with pytest.raises(PosewireError, match=r"distillation: value error, with adapters.*own must be \[1\.0, 1\.0\]"):
        toml.load(tmp_path / "r.toml", recipes.PoseRecipe)
    (tmp_path / "r.toml").write_text(f"{STAGE}[distillation]\nadapters = true\nown = [1.0, 1.0]\n")
    assert toml.load(tmp_path / "r.toml", recipes.PoseRecipe).distillation is not None


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("learning = 1\n", ["learning: there is no such key"]),
        ("[optimiser]\nlr = 1\nrate = -1\n", ["optimiser.lr: there is no such key", "optimiser.rate: input should be greater than 0"]),
        ("[augmentation]\nmirror = 2\n", ["augmentation.mirror: input should be less than or equal to 1"]),
        ("joint_weights = [1.0]\n", ["joint_weights: value error, 1 weights; there are 17 joints: nose, "]),
        ("batch = 0\n", ["batch: input should be greater than 0"]),
    ],
)
def test_every_fault_is_named(tmp_path: Path, text: str, faults: list[str]) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text + STAGE)
    with pytest.raises(PosewireError) as caught:
        toml.load(file, recipes.PoseRecipe)
    lines = sorted(str(caught.value).splitlines())
    assert len(lines) == len(faults)
    assert all(line.startswith(f"{file}: {fault}") for line, fault in zip(lines, sorted(faults), strict=True))


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(STAGE.replace("64", "60", 1))
    with pytest.raises(PosewireError, match=r"stages\.0\.height: input should be a multiple of 32"):
        toml.load(tmp_path / "r.toml", recipes.PoseRecipe)


@pytest.mark.parametrize(("text", "why"), [("", "stages: field required"), ("a = ", "is not valid TOML")])
def test_an_empty_or_broken_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(PosewireError, match=why):
        toml.load(tmp_path / "r.toml", recipes.PoseRecipe)
    with pytest.raises(PosewireError, match="cannot be read: No such file"):
        toml.load(tmp_path / "other.toml", recipes.PoseRecipe)
