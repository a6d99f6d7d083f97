"""Recipes: all that decides what a training makes, apart from the data and the machine. TOML, checked before the start."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from model_store.training import toml
from model_store.training.data.records import JOINTS, KEYPOINTS

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Optimiser(toml.Table):
    """AdamW and its rate: up over `warmup` steps, then constant, or from the end of `flat` down to `floor` along half a cosine."""

    rate: PositiveFloat = 1.5e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: PositiveInt = 200  # steps
    flat: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the training before a cosine begins
    floor: NonNegativeFloat = 1e-5
    weight_decay: NonNegativeFloat = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip: NonNegativeFloat = 20.0  # norm of the gradient; 0: it is not clipped


class Recipe(toml.Table):
    """What both trainings share."""

    batch: PositiveInt = 64
    minutes: PositiveFloat | None = None  # of training, in the place of the stages' samples, which then are their shares of it
    seed: NonNegativeInt = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the average of the weights, a step
    log_every: PositiveInt = 16_000  # samples between two rows of the curves
    optimiser: Optimiser = Optimiser()
    sources: dict[str, NonNegativeFloat] = Field(
        default_factory=dict
    )  # how often a set's images are drawn, against 1 for a set that is not named


class PoseAugmentation(toml.Table):
    """Shares are of the samples; sigmas are of normal distributions."""

    half_body: Share = 0.2
    truncation: Share = 0.1
    scale_sigma: NonNegativeFloat = 0.2  # of the size
    shift_sigma: NonNegativeFloat = 0.04  # of the height
    rotation: Share = 0.5
    rotation_sigma: NonNegativeFloat = 0.35  # radians
    mirror: Share = 0.5
    occlusion: Share = 0.2
    grey: Share = 0.08
    gain_sigma: NonNegativeFloat = 0.18  # of the contrast
    shift_levels: NonNegativeFloat = 12.0  # sigma of the brightness, of 255
    tint_levels: NonNegativeFloat = 8.0  # sigma of each channel, of 255


class PoseStage(toml.Table):
    """A stretch of the training at one size."""

    height: PositiveInt = Field(multiple_of=32)  # pixels
    width: PositiveInt = Field(multiple_of=32)  # pixels
    sigma: PositiveFloat  # of the targets, heatmap pixels: the manifest's, too
    samples: PositiveInt
    augmentation: PoseAugmentation | None = None  # the recipe's if there is none


class Distillation(toml.Table):
    """Block by block from a teacher, as `distillation` does it."""

    teacher: Path | None = None  # file, relative to the recipe; the option --teacher wins
    runs: Literal["module", "file"] = "module"  # the teacher as a torch module of the file's weights, or the file itself
    meetings: Literal["modules", "blocks"] = "modules"  # the student meets the teacher's maps after every one of these
    own: tuple[Share, Share] = (0.0, 1.0)  # how often a block gets its predecessor's own maps, not the teacher's: at first, in the end
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.6  # share of the training in which one becomes the other
    final: NonNegativeFloat = 1.0  # weight of the answer, against 1 for each map
    label: NonNegativeFloat = 0.0  # weight of the annotations


class DetectorDistillation(Distillation):
    """The student meets the teacher's maps and its answer."""

    network: str = "rtmdet-nano"  # the teacher's
    meetings: Literal["modules", "blocks"] = "blocks"


class PoseDistillation(Distillation):
    """Heatmaps are linear then, as the teacher's: no sigmoid makes them."""

    network: str = "wider-naive-litehrnet-18"  # the teacher's
    adapters: bool = False  # 1x1 convolutions before a meeting: for a student whose maps cannot be the teacher's
    flip: NonNegativeFloat = 0.0  # weight of the mean of the teacher's heatmaps of the crop and of its mirror image
    from_logits: bool = False  # the checkpoint of --start gave logits: the last layer begins anew

    @model_validator(mode="after")
    def _goes_end_to_end(self) -> Self:
        if self.adapters and self.own != (1.0, 1.0):
            raise ValueError("with adapters, no block can take the teacher's maps: own must be [1.0, 1.0]")
        return self


class PoseRecipe(Recipe):
    """Lite-HRNet and other networks of heatmaps."""

    network: str = "litehrnet-18"
    stages: tuple[PoseStage, ...] = Field(min_length=1)
    augmentation: PoseAugmentation = PoseAugmentation()
    binary: NonNegativeFloat = 0.25  # weight of the binary cross-entropy, against 1 for the spatial
    joint_weights: tuple[NonNegativeFloat, ...] = (1.0,) * KEYPOINTS
    distillation: PoseDistillation | None = None

    @field_validator("joint_weights")
    @classmethod
    def _one_each(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if len(weights) != KEYPOINTS:
            raise ValueError(f"{len(weights)} weights; there are {KEYPOINTS} joints: {', '.join(JOINTS.names)}")
        return weights


class DetectorStage(toml.Table):
    """A stretch of the training at one size."""

    size: PositiveInt = Field(multiple_of=32)  # pixels a side
    samples: PositiveInt
    mosaic: Share = 0.3  # share of the samples that are four images


class DetectorAugmentation(toml.Table):
    """Shares are of the samples; sigmas are of normal distributions."""

    smallest: PositiveFloat = 0.6  # of the images' scales
    largest: PositiveFloat = 1.7
    squeeze: Annotated[float, Field(ge=1)] = 1.15  # by which an image's aspect changes, either way, at most
    narrowest: PositiveFloat = 0.75  # aspects, width by height, that images of stretched sets are given
    widest: PositiveFloat = 1.6
    mirror: Share = 0.5
    grey: Share = 0.1
    gain_sigma: NonNegativeFloat = 0.2
    shift_levels: NonNegativeFloat = 12.0
    tint_levels: NonNegativeFloat = 8.0


class DetectorRecipe(Recipe):
    """RTMDet-nano for people."""

    network: str = "rtmdet-nano-lean"
    stages: tuple[DetectorStage, ...] = Field(min_length=1)
    augmentation: DetectorAugmentation = DetectorAugmentation()
    stretched: tuple[str, ...] = ()  # sets whose images were made square
    distillation: DetectorDistillation | None = None
