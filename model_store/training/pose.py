"""`python -m model_store.training.pose`: train a network of heatmaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import typer
from torch import Tensor, nn

from model_store.training import networks, toml
from model_store.training.augment import Sample, augment, plain_view, show
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
from model_store.training.data import crops
from model_store.training.data.cutting import HELD_OUT, TRAIN
from model_store.training.data.leaks import refuse_leaks
from model_store.training.data.records import JOINTS
from model_store.training.litehrnet import meeting_places
from model_store.training.losses import heatmap_error, pose_loss
from model_store.training.meetings import Meetings, normalised_error, own_share
from model_store.training.progress import Stretch
from model_store.training.recipe import PoseRecipe
from model_store.training.sampling import chances, without_research
from model_store.training.targets import STRIDE, encode, within
from model_store.training.teachers import Taught, Teacher
from model_store.training.teachers.opening import open_pose_teacher
from model_store.training.trainer import Loss, Trainer
from model_store.training.validation import keypoint_ap
from posewire.errors import PosewireError
from posewire.pipeline.heads.heatmaps import decode_dark
from posewire.types import UInt8Array

# Of channels 0..255, RGB: the manifest's.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
# People that are looked at for every row of the curves, at most.
_VALIDATED = 512


@dataclass(frozen=True, slots=True)
class PoseBatch:
    """People as they are drawn."""

    images: Tensor  # (N, 3, H, W) uint8, RGB
    heatmaps: Tensor  # (N, 17, H / 4, W / 4) float32, of the annotation
    weights: Tensor  # (N, 17) float32
    seed: int  # of what is left to chance when the batch is learnt from


@dataclass(frozen=True, slots=True)
class PoseLesson:
    """What a step learns from."""

    images: Tensor  # (N, 3, H, W) float32, normalised
    heatmaps: Tensor
    weights: Tensor
    seed: int
    taught: Taught | None  # what the teacher says
    flipped: Tensor | None  # (N, 17, H / 4, W / 4): the mean of the teacher's heatmaps of the crop and of its mirror image


@dataclass(frozen=True, slots=True, eq=False)
class PoseSource:
    """Draws people and shows them in other ways; see `drawing.Source`."""

    recipe: PoseRecipe
    people: crops.Crops
    chances: np.ndarray[Any, np.dtype[np.float64]]  # (people,)

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> PoseBatch:
        """Draw people."""
        stage = self.recipe.stages[stretch]
        how = stage.augmentation or self.recipe.augmentation
        samples = [
            augment(sample(self.people, i), how, stage.height, stage.width, rng) for i in rng.choice(len(self.people), size, p=self.chances)
        ]
        colours = {"gain": how.gain_sigma, "levels": how.shift_levels, "tint": how.tint_levels, "grey": how.grey}
        images = stacked([recolour(each.pixels, **colours, rng=rng) for each in samples])
        places = np.stack([each.keypoints_xy for each in samples])
        height, width = stage.height // STRIDE, stage.width // STRIDE
        weights = np.stack([each.weights for each in samples]) * within(places, height, width) * np.array(self.recipe.joint_weights)
        heatmaps = torch.from_numpy(encode(places, height, width, stage.sigma))
        return PoseBatch(images, heatmaps, torch.from_numpy(weights.astype(np.float32)), int(rng.integers(2**62)))


class PoseTraining:
    """See `trainer.Training`.

    Args:
        recipe: how.
        training: people to learn from.
        held_out: people to validate on.
        teacher: file of the teacher, for a recipe with a distillation.
        no_research: leave out sets that are for research only.

    Raises:
        PosewireError: held-out images are in the training data, the recipe names no source that is there, the teacher cannot be read, or
            its maps cannot be met.
    """

    def __init__(
        self, recipe: PoseRecipe, training: crops.Crops, held_out: crops.Crops, teacher: Path | None = None, *, no_research: bool = False
    ) -> None:
        refuse_leaks(training.fingerprints, held_out.fingerprints)
        self.recipe = recipe
        self.held_out = held_out
        wanted = without_research(recipe.sources, training.sources) if no_research else recipe.sources
        self.source = PoseSource(recipe, training, chances(training.source, training.sources, wanted))
        self.stretches = [Stretch(s.samples, s.height, s.width) for s in recipe.stages]
        self.network = networks.build(recipe.network)
        initialise(self.network, recipe.seed)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        self.teacher: Teacher | None = None
        self.meetings: Meetings | None = None
        if recipe.distillation is not None and teacher is not None:
            places = meeting_places(self.network, recipe.distillation.meetings)
            if not places:
                raise PosewireError(f"{recipe.network} has no maps that a teacher's can be compared with")
            self.teacher = open_pose_teacher(recipe.distillation, teacher, places)
            size = recipe.stages[0].height, recipe.stages[0].width
            torch.manual_seed(recipe.seed)  # of the adapters
            self.meetings = Meetings(self.network, self.teacher, places, *size, adapters=recipe.distillation.adapters)

    @property
    def auxiliary(self) -> nn.Module:
        """Variances of the teacher's maps, and adapters."""
        return self.meetings or nn.ModuleList()

    def prepare(self, batch: PoseBatch, device: torch.device) -> PoseLesson:
        """Normalise the images, and let the teacher look at them."""
        images = normalised(batch.images.to(device))
        taught = self.teacher(images) if self.teacher else None
        flipped = None
        if self.teacher and taught and self.recipe.distillation and self.recipe.distillation.flip:
            [mirrored] = self.teacher(images.flip(-1).contiguous(memory_format=torch.channels_last)).answer
            flipped = (taught.answer[0] + unmirrored(mirrored)) / 2
        return PoseLesson(images, batch.heatmaps.to(device), batch.weights.to(device), batch.seed, taught, flipped)

    def begin(self, lesson: PoseLesson, started: bool) -> None:
        """Take the variances of the teacher's maps."""
        if self.meetings is not None and lesson.taught is not None:
            self.meetings.look(lesson.taught)
        if started and self.recipe.distillation is not None and self.recipe.distillation.from_logits:
            initialise_answer(self.network.get_submodule("final_layer"), torch.Generator().manual_seed(self.recipe.seed))

    def loss(self, network: nn.Module, lesson: PoseLesson, share_done: float) -> Loss:
        """Towards the annotation; or towards the teacher's maps and heatmaps, and what else the recipe gives a weight."""
        how, meetings, taught = self.recipe.distillation, self.meetings, lesson.taught
        if how is None or meetings is None or taught is None:
            return Loss(pose_loss(network(lesson.images).float(), lesson.heatmaps, lesson.weights, self.recipe.binary))
        met = meetings.run(network, lesson.images, taught, own_share(how, share_done), lesson.seed)
        [answer], variances = met.answer, meetings.answer_variance()
        parts = {**met.errors, "answer": normalised_error(answer, taught.answer[0], variances)}
        total = torch.stack(list(met.errors.values())).sum() + how.final * parts["answer"]
        if how.label:
            parts["label"] = heatmap_error(answer, lesson.heatmaps, lesson.weights) / variances.mean()
            total = total + how.label * parts["label"]
        if lesson.flipped is not None:
            parts["flip"] = normalised_error(answer, lesson.flipped, variances)
            total = total + how.flip * parts["flip"]
        return Loss(total, parts)

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """`ap` and `ap50` of held-out people in their annotated boxes."""
        stage = self.recipe.stages[stretch]
        device = next(network.parameters()).device
        chosen = np.unique(np.linspace(0, len(self.held_out) - 1, _VALIDATED).astype(int))
        found = []
        for part in np.array_split(chosen, -(-len(chosen) // 32)):
            people = [sample(self.held_out, i) for i in part]
            shown = [show(p, plain_view(p.box_xywh, stage.height / stage.width), stage.height, stage.width) for p in people]
            with torch.inference_mode():
                answer = network(normalised(stacked([s.pixels for s in shown]).to(device)))
                # Of a teacher's student they are linear.
                heatmaps = (answer.sigmoid() if self.recipe.distillation is None else answer.clamp(0, 1)).cpu().numpy()
            places, scores = decode_dark(heatmaps, stage.sigma)
            found += list(zip(shown, people, places * STRIDE, scores, strict=True))
        return keypoint_ap(
            np.stack([s.keypoints_xy for s, _, _, _ in found]),
            np.stack([p.weights for _, p, _, _ in found]),  # those outside of what is shown count too
            np.stack([s.box_xywh for s, _, _, _ in found]),
            np.stack([places for _, _, places, _ in found]),
            np.stack([scores for _, _, _, scores in found]),
        )


def sample(people: crops.Crops, index: int) -> Sample:
    """One of the people."""
    return Sample(np.asarray(people.images[index]), people.keypoints_xy[index], people.weights[index], people.boxes_xywh[index])


def stacked(images: Sequence[UInt8Array]) -> Tensor:
    """(H, W, 3) uint8 RGB each to (N, 3, H, W) uint8, channels-last in memory: convolutions are faster so."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def normalised(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 RGB to float32, normalised."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (_MEAN, _STD))
    return (images - mean) / std


def unmirrored(heatmaps: Tensor) -> Tensor:
    """Heatmaps (N, 17, h, w) of a mirrored crop as those of the crop itself.

    Heatmap pixel x is crop pixel 4x: mirrored back, a heatmap lies three quarters of a pixel to the left. As in HRNet's flip test, it is
    shifted to the right by one.
    """
    back = heatmaps[:, JOINTS.mirrored].flip(-1)
    return torch.cat([back[..., :1], back[..., :-1]], -1)


def initialise_answer(layer: nn.Module, generator: torch.Generator) -> None:
    """Nearly nothing everywhere, so that no place is favoured at first."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.001, generator=generator)
    nn.init.zeros_(layer.bias)


def initialise(network: nn.Module, seed: int) -> None:
    """Random weights: He's for convolutions, nearly nothing for the heatmaps, so that no place is favoured at first."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if name == "final_layer":
                initialise_answer(module, generator)
                continue
            mode: Literal["fan_in", "fan_out"] = "fan_out" if module.groups == 1 else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def train(recipe: PoseRecipe, place: Place, teacher: Path | None = None, *, no_research: bool = False) -> Trainer[PoseBatch, PoseLesson]:
    """Train a pose network; see `commands.conduct`.

    Raises:
        PosewireError: as `PoseTraining` and `commands.conduct`.
    """

    def make(folder: Path) -> PoseTraining:
        data = crops.open_crops(folder / TRAIN), crops.open_crops(folder / HELD_OUT)
        return PoseTraining(recipe, *data, teacher, no_research=no_research)

    return conduct(recipe, make, place)


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
    """Train the pose network. Stopped or killed, the same command goes on where it was."""
    chosen = with_leg(toml.load(recipe, PoseRecipe), leg)
    file = teacher_file(chosen.distillation, teacher, recipe.parent)
    train(chosen, Place(work, data, start, minutes, device, bf16, workers, threads, nice), file, no_research=no_research)


if __name__ == "__main__":
    run(app)
