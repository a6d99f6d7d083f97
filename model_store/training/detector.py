"""`python -m model_store.training.detector`: train the small person detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import typer
from torch import Tensor, nn

from model_store.training import toml
from model_store.training.augment_scene import Shown, mosaic, place
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
from model_store.training.data import scenes
from model_store.training.data.cutting import HELD_OUT, TRAIN
from model_store.training.data.leaks import refuse_leaks
from model_store.training.detection.boxes import cells
from model_store.training.detection.loss import detector_loss
from model_store.training.detection.network import build
from model_store.training.progress import Stretch
from model_store.training.recipe import DetectorRecipe
from model_store.training.sampling import chances
from model_store.training.validation import box_ap
from posewire.types import FloatArray, UInt8Array
from posewire.vision.geometry import non_maximum_suppression, xywh_to_xyxy, xyxy_to_xywh

# Of the answers to a held-out picture: the least score, the overlap of the manifest, and how many are looked at and kept.
_LEAST_SCORE, _OVERLAP, _LOOKED_AT, _KEPT = 0.02, 0.65, 300, 100
# Pictures that are looked at for every row of the curves, at most.
_VALIDATED = 512


@dataclass(frozen=True, slots=True)
class DetectorBatch:
    """What a step learns from."""

    pictures: Tensor  # (N, 3, size, size) float32, BGR, 0..1
    people: Sequence[Tensor]  # of each picture (people, 4), x0 y0 x1 y1


class DetectorTraining:
    """See `trainer.Training`.

    Args:
        recipe: how.
        training: pictures to learn from.
        held_out: pictures to validate on.

    Raises:
        PosewireError: held-out pictures are in the training data, or the recipe gives all sources the weight 0.
    """

    def __init__(self, recipe: DetectorRecipe, training: scenes.Scenes, held_out: scenes.Scenes) -> None:
        refuse_leaks(training.fingerprints, held_out.fingerprints)
        self.recipe = recipe
        self.data = training
        self.held_out = held_out
        self.chances = chances(training.source, training.sources, recipe.sources)
        self.stretches = [Stretch(stage.samples, stage.size, stage.size) for stage in recipe.stages]
        torch.manual_seed(recipe.seed)
        self.network = build()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> DetectorBatch:
        """Draw pictures, show them in other ways."""
        how = self.recipe.augmentation
        shown = [self._draw(stretch, rng) for _ in range(size)]
        colours = {"gain": how.gain_sigma, "levels": how.shift_levels, "tint": how.tint_levels, "grey": how.grey}
        pictures = to_input([recolour(s.pixels, **colours, rng=rng) for s in shown])
        return DetectorBatch(pictures, [torch.from_numpy(s.boxes_xyxy) for s in shown])

    def loss(self, network: nn.Module, batch: DetectorBatch) -> Tensor:
        """Of scores and boxes."""
        height, width = batch.pictures.shape[2:]
        return detector_loss(network(batch.pictures), batch.people, cells(height, width)).total

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """`ap` and `ap50` of the people's boxes on held-out pictures."""
        size = self.recipe.stages[stretch].size
        truth, found, scores = [], [], []
        for index in np.unique(np.linspace(0, len(self.held_out) - 1, _VALIDATED).astype(int)):
            square = np.asarray(self.held_out.pictures[index])
            small = np.asarray(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
            with torch.inference_mode():
                answers = network(to_input([small]))[0].numpy()
            boxes, sure = best(answers)
            truth.append(self.held_out.boxes_xywh[index] * np.float32(size / len(square)))
            found.append(xyxy_to_xywh(boxes))
            scores.append(sure)
        return box_ap(truth, found, scores)

    def _draw(self, stretch: int, rng: np.random.Generator) -> Shown:
        stage = self.recipe.stages[stretch]
        if rng.random() >= stage.mosaic:
            return self._one(stage.size, rng)
        return mosaic([self._one(stage.size // 2, rng) for _ in range(4)])

    def _one(self, size: int, rng: np.random.Generator) -> Shown:
        index = rng.choice(len(self.data), p=self.chances)
        height, width = self.data.sizes_hw[index]
        shown = Shown(np.asarray(self.data.pictures[index, :height, :width]), xywh_to_xyxy(self.data.boxes_xywh[index]))
        stretched = self.data.sources[self.data.source[index]] in self.recipe.stretched
        return place(shown, size, self.recipe.augmentation, rng, stretched=stretched)


def to_input(pictures: Sequence[UInt8Array]) -> Tensor:
    """(size, size, 3) uint8 RGB each to (N, 3, size, size) float32 BGR 0..1."""
    blue_first = np.ascontiguousarray(np.stack(pictures)[..., ::-1])
    return torch.from_numpy(blue_first).permute(0, 3, 1, 2).float() / 255  # channels-last, as it was


def best(answers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The network's answers (cells, 5) for a picture to boxes (n, 4) x0 y0 x1 y1 and scores (n,), best first, one a person."""
    scores = (1 / (1 + np.exp(-answers[:, 0].astype(np.float64)))).astype(np.float32)
    order = np.argsort(-scores)[:_LOOKED_AT]
    order = order[scores[order] > _LEAST_SCORE]
    kept = order[non_maximum_suppression(answers[order, 1:], scores[order], _OVERLAP)][:_KEPT]
    return answers[kept, 1:], scores[kept]


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
    """Train the detector. Stopped or killed, the same command goes on where it was."""
    chosen = toml.load(recipe, DetectorRecipe)

    def make(folder: Path) -> DetectorTraining:
        return DetectorTraining(chosen, scenes.open_scenes(folder / TRAIN), scenes.open_scenes(folder / HELD_OUT))

    conduct(chosen, make, work, data, start, minutes, threads, nice)


if __name__ == "__main__":
    run(app)
