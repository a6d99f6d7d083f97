"""`python -m model_store.training.pose`: train a network of heatmaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import typer
from torch import Tensor, nn

from model_store.training import networks, toml
from model_store.training.augment import Sample, augment, plain_view, show
from model_store.training.colour import recolour
from model_store.training.command_line import run
from model_store.training.commands import (
    DataOption,
    MinutesOption,
    NiceOption,
    RecipeOption,
    StartOption,
    ThreadsOption,
    WorkOption,
    conduct,
)
from model_store.training.data import crops
from model_store.training.data.cutting import HELD_OUT, TRAIN
from model_store.training.data.leaks import refuse_leaks
from model_store.training.losses import distillation_loss, pose_loss
from model_store.training.progress import Stretch
from model_store.training.recipe import PoseRecipe
from model_store.training.sampling import chances
from model_store.training.targets import STRIDE, encode, within
from model_store.training.teaching import HeatmapTeacher
from model_store.training.validation import keypoint_ap
from posewire.types import FloatArray, UInt8Array
from posewire.vision.keypoints import decode_dark

# Of channels 0..255, RGB: the manifest's.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
# People that are looked at for every row of the curves, at most.
_VALIDATED = 512


@dataclass(frozen=True, slots=True)
class PoseBatch:
    """What a step learns from."""

    pictures: Tensor  # (N, 3, H, W) float32, normalised
    heatmaps: Tensor  # (N, 17, H / 4, W / 4)
    weights: Tensor  # (N, 17)
    teacher: Tensor | None  # heatmaps of the teacher, as `heatmaps`


class PoseTraining:
    """See `trainer.Training`.

    Args:
        recipe: how.
        training: people to learn from.
        held_out: people to validate on.
        folder: where the recipe's paths start.

    Raises:
        PosewireError: held-out pictures are in the training data, the recipe names no source that is there, or the teacher cannot be read.
    """

    def __init__(self, recipe: PoseRecipe, training: crops.Crops, held_out: crops.Crops, folder: Path) -> None:
        refuse_leaks(training.fingerprints, held_out.fingerprints)
        self.recipe = recipe
        self.data = training
        self.held_out = held_out
        self.chances = chances(training.source, training.sources, recipe.sources)
        self.joint_weights = np.array(recipe.joint_weights, np.float32)
        self.stretches = [Stretch(s.samples, s.height, s.width) for s in recipe.stages]
        self.network = networks.build(recipe.network)
        self.teacher = HeatmapTeacher(folder / recipe.distillation.teacher) if recipe.distillation else None
        initialise(self.network, recipe.seed)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> PoseBatch:
        """Draw people, show them in other ways."""
        stage = self.recipe.stages[stretch]
        how = stage.augmentation or self.recipe.augmentation
        samples = [
            augment(self._sample(self.data, i), how, stage.height, stage.width, rng)
            for i in rng.choice(len(self.data), size, p=self.chances)
        ]
        colours = {"gain": how.gain_sigma, "levels": how.shift_levels, "tint": how.tint_levels, "grey": how.grey}
        pictures = normalise([recolour(sample.pixels, **colours, rng=rng) for sample in samples])
        places = np.stack([sample.keypoints_xy for sample in samples])
        height, width = stage.height // STRIDE, stage.width // STRIDE
        weights = np.stack([sample.weights for sample in samples]) * within(places, height, width) * self.joint_weights
        heatmaps = torch.from_numpy(encode(places, height, width, stage.sigma))
        taught = torch.from_numpy(self.teacher(pictures)) if self.teacher else None
        return PoseBatch(torch.from_numpy(pictures), heatmaps, torch.from_numpy(weights.astype(np.float32)), taught)

    def loss(self, network: nn.Module, batch: PoseBatch) -> Tensor:
        """Towards the annotation, and towards the teacher if there is one."""
        logits = network(batch.pictures)
        loss = pose_loss(logits, batch.heatmaps, batch.weights, self.recipe.binary)
        if batch.teacher is not None and self.recipe.distillation is not None:
            loss = loss + self.recipe.distillation.weight * distillation_loss(logits, batch.teacher, self.recipe.binary)
        return loss

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """`ap` and `ap50` of held-out people in their annotated boxes."""
        stage = self.recipe.stages[stretch]
        chosen = np.unique(np.linspace(0, len(self.held_out) - 1, _VALIDATED).astype(int))
        found = []
        for part in np.array_split(chosen, -(-len(chosen) // 32)):
            people = [self._sample(self.held_out, i) for i in part]
            shown = [show(p, plain_view(p.box_xywh, stage.height / stage.width), stage.height, stage.width) for p in people]
            with torch.inference_mode():
                heatmaps = network(torch.from_numpy(normalise([s.pixels for s in shown]))).sigmoid().numpy()
            places, scores = decode_dark(heatmaps, stage.sigma)
            found += list(zip(shown, people, places * STRIDE, scores, strict=True))
        return keypoint_ap(
            np.stack([s.keypoints_xy for s, _, _, _ in found]),
            np.stack([p.weights for _, p, _, _ in found]),  # those outside of what is shown count too
            np.stack([s.box_xywh for s, _, _, _ in found]),
            np.stack([places for _, _, places, _ in found]),
            np.stack([scores for _, _, _, scores in found]),
        )

    @staticmethod
    def _sample(data: crops.Crops, index: int) -> Sample:
        return Sample(np.asarray(data.pictures[index]), data.keypoints_xy[index], data.weights[index], data.boxes_xywh[index])


def normalise(pictures: Sequence[UInt8Array]) -> FloatArray:
    """(H, W, 3) uint8 RGB each to (N, 3, H, W) float32, channels-last in memory: convolutions are faster so."""
    return np.asarray((np.stack(pictures) - _MEAN) / _STD, np.float32).transpose(0, 3, 1, 2)


def initialise(network: nn.Module, seed: int) -> None:
    """Random weights: He's for convolutions, nearly nothing for the heatmaps, so that no place is favoured at first."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name == "final_layer":
                nn.init.normal_(module.weight, std=0.001, generator=generator)
            else:
                mode: Literal["fan_in", "fan_out"] = "fan_out" if module.groups == 1 else "fan_in"
                nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    recipe: RecipeOption,
    work: WorkOption,
    data: DataOption = None,
    start: StartOption = None,
    minutes: MinutesOption = None,
    threads: ThreadsOption = 1,
    nice: NiceOption = 19,
) -> None:
    """Train the pose network. Stopped or killed, the same command goes on where it was."""
    chosen = toml.load(recipe, PoseRecipe)

    def make(folder: Path) -> PoseTraining:
        return PoseTraining(chosen, crops.open_crops(folder / TRAIN), crops.open_crops(folder / HELD_OUT), recipe.parent)

    conduct(chosen, make, work, data, start, minutes, threads, nice)


if __name__ == "__main__":
    run(app)
