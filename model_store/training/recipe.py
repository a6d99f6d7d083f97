"""Recipes: all that decides what a training makes, apart from the data and the machine. TOML, checked before the start."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from model_store.training import toml
from model_store.training.data.records import JOINTS, KEYPOINTS

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class Optimiser(toml.Table):
    """AdamW and its rate: up over `warmup` steps, then constant, or down to `floor` along half a cosine by the last sample."""

    rate: PositiveFloat = 1.5e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: PositiveInt = 200  # steps
    floor: NonNegativeFloat = 1e-5
    weight_decay: NonNegativeFloat = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip: PositiveFloat = 20.0  # norm of the gradient


class Recipe(toml.Table):
    """What both trainings share."""

    batch: PositiveInt = 64
    seed: NonNegativeInt = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the average of the weights, a step
    log_every: PositiveInt = 16_000  # samples between two rows of the curves
    optimiser: Optimiser = Optimiser()
    sources: dict[str, NonNegativeFloat] = Field(
        default_factory=dict
    )  # how often a set's pictures are drawn, against 1 for a set that is not named


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
    """Learn from another network's heatmaps too, where they are sure."""

    teacher: Path  # ONNX of `posewire models compile`, at the stage's size; relative to the recipe
    weight: PositiveFloat = 0.5  # of its loss, against 1 for the annotation's


class PoseRecipe(Recipe):
    """Lite-HRNet and other networks of heatmaps."""

    network: str = "litehrnet-18"
    stages: tuple[PoseStage, ...] = Field(min_length=1)
    augmentation: PoseAugmentation = PoseAugmentation()
    binary: NonNegativeFloat = 0.25  # weight of the binary cross-entropy, against 1 for the spatial
    joint_weights: tuple[NonNegativeFloat, ...] = (1.0,) * KEYPOINTS
    distillation: Distillation | None = None

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
    mosaic: Share = 0.3  # share of the samples that are four pictures


class DetectorAugmentation(toml.Table):
    """Shares are of the samples; sigmas are of normal distributions."""

    smallest: PositiveFloat = 0.6  # of the pictures' scales
    largest: PositiveFloat = 1.7
    squeeze: Annotated[float, Field(ge=1)] = 1.15  # by which a picture's aspect changes, either way, at most
    narrowest: PositiveFloat = 0.75  # aspects, width by height, that pictures of stretched sets are given
    widest: PositiveFloat = 1.6
    mirror: Share = 0.5
    grey: Share = 0.1
    gain_sigma: NonNegativeFloat = 0.2
    shift_levels: NonNegativeFloat = 12.0
    tint_levels: NonNegativeFloat = 8.0


class DetectorRecipe(Recipe):
    """The small person detector."""

    stages: tuple[DetectorStage, ...] = Field(min_length=1)
    augmentation: DetectorAugmentation = DetectorAugmentation()
    stretched: tuple[str, ...] = ()  # sets whose pictures were made square
