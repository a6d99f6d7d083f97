"""What `manifest.toml` says about every model: the only place that knows a model's size, colours and files.

Another model is another entry; no code changes.
"""

import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, Self, TypeAlias, overload

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from posewire.errors import ModelError
from posewire.models.keypoint_sets import KEYPOINT_SETS, KeypointSet

Task: TypeAlias = Literal["pose", "detector"]


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor or ".." in PureWindowsPath(path).parts:
        raise ValueError(f"{path!r} must be a path inside the manifest's folder, without ..")
    return path


def _keypoint_set(value: object) -> KeypointSet:
    if isinstance(value, KeypointSet):
        return value
    if isinstance(value, str) and value in KEYPOINT_SETS:
        return KEYPOINT_SETS[value]
    raise ValueError(f"{value!r} is not a keypoint set; known: {', '.join(KEYPOINT_SETS)}")


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
RelativePath: TypeAlias = Annotated[Text, AfterValidator(_inside)]
Count: TypeAlias = Annotated[int, Field(gt=0)]
Positive: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Defaults(_Entry):
    """The names of the models that serve when the settings name none."""

    detector: Name
    pose: Name


class Accuracy(_Entry):
    """One measured number."""

    dataset: Text
    metric: Text
    value: FiniteFloat
    command: Text  # what measured it


class Provenance(_Entry):
    """Where the weights come from."""

    made_by: Text
    data: Text
    recipe: Text


class ModelInput(_Entry):
    """What the network takes: (batch, 3, height, width) float32, (channel - mean) / std."""

    height: Count  # pixels
    width: Count  # pixels
    colour: Literal["RGB", "BGR"]  # order of the channels; mean and std are in the same order
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]  # of channels 0..255
    std: tuple[Positive, Positive, Positive]  # of channels 0..255


class HeatmapOutput(_Entry):
    """(batch, K, height / stride, width / stride) float32 heatmaps, 0..1."""

    layout: Literal["heatmaps"]
    stride: Count  # input pixels a heatmap pixel
    sigma: Positive  # heatmap pixels: of the Gaussians that the training targets were drawn with
    flip_shift: Literal[0, 1]  # heatmap pixels by which the mirrored heatmaps are shifted in the flip test


class DetectorOutput(_Entry):
    """(batch, N, …) float32 candidates before non-maximum suppression.

    `boxes_scores` is (batch, N, 5): x0 y0 x1 y1 in input pixels and a score 0..1. `yolox` is YOLOX's raw export
    (batch, N, 5 + classes): centre and size in units of the stride, objectness, a score for each class.
    """

    layout: Literal["boxes_scores", "yolox"]
    strides: Annotated[tuple[Count, ...], Field(min_length=1)] = (8, 16, 32)  # input pixels a grid cell, in the order of the candidates
    person_class: Annotated[int, Field(ge=0)] = 0  # index of the class "person" in the yolox layout


class _BaseSpec(_Entry):
    name: Name
    title: Text
    file: RelativePath  # of the ONNX weights, relative to the manifest
    sha256: Sha256  # of the file, lower-case hexadecimal
    bytes: Count  # size of the file
    licence: Text
    card: RelativePath  # the model card, relative to the manifest
    accuracy: tuple[Accuracy, ...] = ()
    provenance: Provenance
    input: ModelInput


class PoseSpec(_BaseSpec):
    """A top-down pose model: one crop of one person in, one heatmap a keypoint out."""

    task: Literal["pose"]
    output: HeatmapOutput
    keypoints: Annotated[KeypointSet, BeforeValidator(_keypoint_set)]  # the manifest has its name in `keypoint_sets`


class DetectorSpec(_BaseSpec):
    """A person detector: a letterboxed picture in (picture at the top left), candidate boxes out."""

    task: Literal["detector"]
    output: DetectorOutput
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114  # fills the letterbox around the picture, all channels
    nms_iou: Annotated[float, Field(gt=0, le=1)]  # overlap above which the lesser box goes


ModelSpec: TypeAlias = Annotated[PoseSpec | DetectorSpec, Field(discriminator="task")]


class Manifest(_Entry):
    """Every model that can be served."""

    defaults: Defaults
    models: tuple[ModelSpec, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [spec.name for spec in self.models]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"models[{index}].name: {name!r} is there twice")
        tasks: tuple[Task, ...] = ("detector", "pose")
        for task in tasks:
            try:
                self.default(task)
            except ModelError as error:
                raise ValueError(f"defaults.{task}: {error}") from None
        return self

    @overload
    def get(self, name: str, task: None = None) -> ModelSpec: ...
    @overload
    def get(self, name: str, task: Literal["pose"]) -> PoseSpec: ...
    @overload
    def get(self, name: str, task: Literal["detector"]) -> DetectorSpec: ...
    @overload
    def get(self, name: str, task: Task | None) -> ModelSpec: ...

    def get(self, name: str, task: Task | None = None) -> ModelSpec:
        """The model of that name, which must do `task` where one is given.

        Raises:
            ModelError: there is none, or it does another task; the message names those that would do.
        """
        fitting = {spec.name: spec for spec in self.models if task in (None, spec.task)}
        if name in fitting:
            return fitting[name]
        kind = f"{task} model" if task else "model"
        raise ModelError(f"{name!r} is not a {kind} of the manifest; known: {', '.join(fitting) or 'none'}")

    @overload
    def default(self, task: Literal["pose"]) -> PoseSpec: ...
    @overload
    def default(self, task: Literal["detector"]) -> DetectorSpec: ...
    @overload
    def default(self, task: Task) -> ModelSpec: ...

    def default(self, task: Task) -> ModelSpec:
        """The model that does `task` when the settings name none."""
        return self.get(self.defaults.pose if task == "pose" else self.defaults.detector, task)


def load_manifest(path: Path) -> Manifest:
    """Read and check a `manifest.toml`.

    Raises:
        ModelError: the file cannot be read, is not TOML, or a value is missing, unknown or wrong. The message is one
            line: the file, the key, what is wrong.
    """
    try:
        with path.open("rb") as handle:
            content = tomllib.load(handle)
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such manifest") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError, or bytes that are not UTF-8
        raise ModelError(f"{path}: not valid TOML: {error}") from None
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    # A mistyped key is both missing and unknown; the unknown one is what the reader has to look for.
    fault = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ""
    for position, part in enumerate(fault["loc"]):
        if isinstance(part, int):
            key += f"[{part}]"
        elif position != 2 or fault["loc"][0] != "models":  # there pydantic puts the task that chose the class
            key += f".{part}" if key else part
    said = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
    return f"{key}: {said}" if key else said
