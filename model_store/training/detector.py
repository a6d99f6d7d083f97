"""`python -m model_store.training.detector`: train RTMDet-nano for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    Bf16Option,
    DataOption,
    DeviceOption,
    LegOption,
    MinutesOption,
    NiceOption,
    NoResearchOption,
    Place,
    RecipeOption,
    StartOption,
    TeacherOption,
    ThreadsOption,
    WorkersOption,
    WorkOption,
    conduct,
    teacher_file,
    with_leg,
)
from model_store.training.data import scenes
from model_store.training.data.cutting import HELD_OUT, TRAIN
from model_store.training.data.leaks import refuse_leaks
from model_store.training.detection.answers import answer_loss
from model_store.training.detection.boxes import cells, decode
from model_store.training.detection.loss import detector_loss
from model_store.training.meetings import Meetings, normalised_error, own_share
from model_store.training.moments import begin_with_moments
from model_store.training.progress import Stretch
from model_store.training.recipe import DetectorRecipe
from model_store.training.rtmdet import MEAN, STD, build, last_norm, meeting_places, published_name
from model_store.training.sampling import chances, without_research
from model_store.training.teachers import Taught, Teacher
from model_store.training.teachers.opening import open_detector_teacher
from model_store.training.trainer import Loss, Trainer
from model_store.training.validation import box_ap
from posewire.errors import PosewireError
from posewire.imaging.geometry import non_maximum_suppression, xywh_to_xyxy, xyxy_to_xywh
from posewire.types import FloatArray, UInt8Array

# Of a student's maps, scores and boxes together, against 1 for each map that is met.
ANSWER_WEIGHT = 0.3
# Of the answers to a held-out image: the least score, the overlap of the manifest, and how many are looked at and kept.
_LEAST_SCORE, _OVERLAP, _LOOKED_AT, _KEPT = 0.02, 0.65, 300, 100
# Images that are looked at for every row of the curves, at most.
_VALIDATED = 512


@dataclass(frozen=True, slots=True)
class DetectorBatch:
    """Images as they are drawn."""

    images: Tensor  # (N, 3, size, size) uint8, BGR
    people: Sequence[Tensor]  # of each image (people, 4) float32, x0 y0 x1 y1
    seed: int  # of what is left to chance when the batch is learnt from


@dataclass(frozen=True, slots=True)
class DetectorLesson:
    """What a step learns from."""

    images: Tensor  # (N, 3, size, size) float32, BGR, normalised
    people: Sequence[Tensor]
    seed: int
    taught: Taught | None  # what the teacher says


@dataclass(frozen=True, slots=True, eq=False)
class DetectorSource:
    """Draws images and shows them in other ways; see `drawing.Source`."""

    recipe: DetectorRecipe
    scenes: scenes.Scenes
    chances: np.ndarray[Any, np.dtype[np.float64]]  # (images,)

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> DetectorBatch:
        """Draw images."""
        how = self.recipe.augmentation
        shown = [self._draw(stretch, rng) for _ in range(size)]
        colours = {"gain": how.gain_sigma, "levels": how.shift_levels, "tint": how.tint_levels, "grey": how.grey}
        images = stacked([recolour(s.pixels, **colours, rng=rng) for s in shown])
        return DetectorBatch(images, [torch.from_numpy(s.boxes_xyxy) for s in shown], int(rng.integers(2**62)))

    def _draw(self, stretch: int, rng: np.random.Generator) -> Shown:
        stage = self.recipe.stages[stretch]
        if rng.random() >= stage.mosaic:
            return self._one(stage.size, rng)
        return mosaic([self._one(stage.size // 2, rng) for _ in range(4)])

    def _one(self, size: int, rng: np.random.Generator) -> Shown:
        index = rng.choice(len(self.scenes), p=self.chances)
        height, width = self.scenes.sizes_hw[index]
        shown = Shown(np.asarray(self.scenes.images[index, :height, :width]), xywh_to_xyxy(self.scenes.boxes_xywh[index]))
        stretched = self.scenes.sources[self.scenes.source[index]] in self.recipe.stretched
        return place(shown, size, self.recipe.augmentation, rng, stretched=stretched)


class DetectorTraining:
    """See `trainer.Training`.

    Args:
        recipe: how.
        training: images to learn from.
        held_out: images to validate on.
        teacher: file of the teacher, for a recipe with a distillation.
        no_research: leave out sets that are for research only.

    Raises:
        PosewireError: held-out images are in the training data, the recipe gives all sources the weight 0, annotations are to be learnt
            from that some of them lack, or the teacher cannot be read.
    """

    def __init__(
        self,
        recipe: DetectorRecipe,
        training: scenes.Scenes,
        held_out: scenes.Scenes,
        teacher: Path | None = None,
        *,
        no_research: bool = False,
    ) -> None:
        refuse_leaks(training.fingerprints, held_out.fingerprints)
        self.recipe = recipe
        self.held_out = held_out
        wanted = without_research(recipe.sources, training.sources) if no_research else recipe.sources
        if recipe.distillation is None or recipe.distillation.label:
            _require_labels(training, wanted)
        self.source = DetectorSource(recipe, training, chances(training.source, training.sources, wanted))
        self.stretches = [Stretch(stage.samples, stage.size, stage.size) for stage in recipe.stages]
        torch.manual_seed(recipe.seed)
        self.network = build(recipe.network)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        self.teacher: Teacher | None = None
        self.meetings: Meetings | None = None
        if recipe.distillation is not None and teacher is not None:
            places = meeting_places(self.network, recipe.distillation.meetings)
            self.teacher = open_detector_teacher(recipe.distillation, teacher, places)
            size = recipe.stages[0].size
            self.meetings = Meetings(self.network, self.teacher, places, size, size, adapters=False)

    @property
    def auxiliary(self) -> nn.Module:
        """Variances of the teacher's maps."""
        return self.meetings or nn.ModuleList()

    def prepare(self, batch: DetectorBatch, device: torch.device) -> DetectorLesson:
        """Normalise the images, and let the teacher look at them."""
        images = normalised(batch.images.to(device))
        taught = self.teacher(images) if self.teacher else None
        return DetectorLesson(images, [people.to(device) for people in batch.people], batch.seed, taught)

    def begin(self, lesson: DetectorLesson, started: bool) -> None:
        """Take the variances of the teacher's maps, and let random weights give maps of their moments."""
        if self.meetings is None or lesson.taught is None:
            return
        self.meetings.look(lesson.taught, floor=0.0)
        if not started:
            for name in self.meetings.places:
                begin_with_moments(last_norm(self.network.get_submodule(name)), lesson.taught.maps[name][0])

    def loss(self, network: nn.Module, lesson: DetectorLesson, share_done: float) -> Loss:
        """Towards the annotation; or towards the teacher's maps and answer, and the annotation if it has a weight."""
        how, meetings, taught = self.recipe.distillation, self.meetings, lesson.taught
        grid = cells(*lesson.images.shape[2:]).to(lesson.images.device)
        if how is None or meetings is None or taught is None:
            answers = decode([each.float() for each in network(lesson.images)], grid)
            return Loss(detector_loss(answers, lesson.people, grid).total)
        met = meetings.run(network, lesson.images, taught, own_share(how, share_done), lesson.seed)
        pairs = enumerate(zip(met.answer, taught.answer, strict=True))
        raw = torch.stack([normalised_error(own, wanted, meetings.answer_variance(k)) for k, (own, wanted) in pairs]).sum()
        answers = decode([each.float() for each in met.answer], grid)
        people = answer_loss(answers, decode(taught.answer, grid))
        parts = {**met.errors, "answer": raw, "scores": people.scores, "boxes": people.boxes}
        total = torch.stack(list(met.errors.values())).sum() + ANSWER_WEIGHT * how.final * (raw + people.scores + people.boxes)
        if how.label:
            parts["label"] = detector_loss(answers, lesson.people, grid).total
            total = total + how.label * parts["label"]
        return Loss(total, parts)

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """`ap` and `ap50` of the people's boxes on held-out images."""
        size = self.recipe.stages[stretch].size
        device = next(network.parameters()).device
        grid = cells(size, size).to(device)
        truth, found, scores = [], [], []
        for index in np.unique(np.linspace(0, len(self.held_out) - 1, _VALIDATED).astype(int)):
            square = np.asarray(self.held_out.images[index])
            small = np.asarray(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
            with torch.inference_mode():
                answers = decode(network(normalised(stacked([small]).to(device))), grid)[0].cpu().numpy()
            boxes, sure = best(answers)
            truth.append(self.held_out.boxes_xywh[index] * np.float32(size / len(square)))
            found.append(xyxy_to_xywh(boxes))
            scores.append(sure)
        return box_ap(truth, found, scores)


def _require_labels(training: scenes.Scenes, wanted: Mapping[str, float]) -> None:
    lacking = [name for name in training.unlabelled if wanted.get(name, 1.0) > 0]
    if lacking:
        raise PosewireError(
            f"{', '.join(lacking)}: nobody has said who is in these images. Only a teacher can teach on them, in a recipe with "
            "[distillation] and no label; or give them the weight 0 in [sources]"
        )


def stacked(images: Sequence[UInt8Array]) -> Tensor:
    """(size, size, 3) uint8 RGB each to (N, 3, size, size) uint8 BGR, channels-last in memory."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images)[..., ::-1])).permute(0, 3, 1, 2)


def normalised(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 BGR to float32, normalised."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def best(answers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The network's answers (cells, 5) for an image to boxes (n, 4) x0 y0 x1 y1 and scores (n,), best first, one a person."""
    scores = (1 / (1 + np.exp(-answers[:, 0].astype(np.float64)))).astype(np.float32)
    order = np.argsort(-scores)[:_LOOKED_AT]
    order = order[scores[order] > _LEAST_SCORE]
    kept = order[non_maximum_suppression(answers[order, 1:], scores[order], _OVERLAP)][:_KEPT]
    return answers[kept, 1:], scores[kept]


def train(
    recipe: DetectorRecipe, where: Place, teacher: Path | None = None, *, no_research: bool = False
) -> Trainer[DetectorBatch, DetectorLesson]:
    """Train the detector; see `commands.conduct`.

    Raises:
        PosewireError: as `DetectorTraining` and `commands.conduct`.
    """

    def make(folder: Path) -> DetectorTraining:
        data = scenes.open_scenes(folder / TRAIN), scenes.open_scenes(folder / HELD_OUT)
        return DetectorTraining(recipe, *data, teacher, no_research=no_research)

    return conduct(recipe, make, where, published_name)


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    recipe: RecipeOption,
    work: WorkOption,
    data: DataOption = None,
    start: StartOption = None,
    teacher: TeacherOption = None,
    leg: LegOption = None,
    minutes: MinutesOption = None,
    no_research: NoResearchOption = False,
    device: DeviceOption = "cpu",
    bf16: Bf16Option = None,
    workers: WorkersOption = 0,
    threads: ThreadsOption = 1,
    nice: NiceOption = 19,
) -> None:
    """Train the detector. Stopped or killed, the same command goes on where it was."""
    chosen = with_leg(toml.load(recipe, DetectorRecipe), leg)
    file = teacher_file(chosen.distillation, teacher, recipe.parent)
    train(chosen, Place(work, data, start, minutes, device, bf16, workers, threads, nice), file, no_research=no_research)


if __name__ == "__main__":
    run(app)
