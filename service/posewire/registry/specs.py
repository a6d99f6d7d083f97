"""The descriptions of models: of those with a file, and of those that can be pulled."""

from functools import partial
from importlib import import_module
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails

from posewire.errors import ModelError
from posewire.registry.keypoint_sets import KEYPOINT_SETS, KeypointSet, load_keypoint_set
from posewire.registry.networks.litehrnet.spec import VARIANTS
from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS
from posewire.registry.score_curve import ScoreCurve
from posewire.types import InputFormat

Task: TypeAlias = Literal["pose", "detector"]


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).anchor or ".." in PureWindowsPath(path).parts:
        raise ValueError(f"{path!r} must be a path inside the manifest's folder, without ..")
    return path


def _keypoint_set(value: object, info: ValidationInfo) -> KeypointSet:
    """Return a set by its name, or by the path of its file in the folder that is the context of the validation."""
    if isinstance(value, KeypointSet):
        return value
    if isinstance(value, str) and value in KEYPOINT_SETS:
        return KEYPOINT_SETS[value]
    folder = info.context
    if isinstance(value, str) and value.endswith(".toml") and isinstance(folder, Path):
        try:
            return load_keypoint_set(folder / _inside(value), value)
        except ModelError as error:
            raise ValueError(str(error)) from None
    raise ValueError(f"{value!r} is not a keypoint set; known: {', '.join(KEYPOINT_SETS)}, or the path of a .toml file beside the manifest")


Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
Sha256Prefix: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8,63}$", to_lower=True)]
Address: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https?://\S+/[A-Za-z0-9][A-Za-z0-9._-]*$")]
RelativePath: TypeAlias = Annotated[Text, AfterValidator(_inside)]
Count: TypeAlias = Annotated[int, Field(gt=0)]
Positive: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class Entry(BaseModel):
    """A table of a manifest: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(Entry):
    """One measured number."""

    dataset: Text
    metric: Text
    value: FiniteFloat
    command: Text  # that measured it


class Provenance(Entry):
    """The origin of the weights."""

    made_by: Text
    data: Text
    recipe: Text


class ModelInput(Entry):
    """The input of a network: float32-nchw is (channel - mean) / std; a network of uint8 computes that itself."""

    format: InputFormat = "float32-nchw"
    height: Count  # pixels
    width: Count  # pixels
    colour: Literal["RGB", "BGR"]  # order of the channels; mean and std are in the same order
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]  # of channels 0..255
    std: tuple[Positive, Positive, Positive]  # of channels 0..255


class Calibration(Entry):
    """Platt scaling of scores: sigmoid(scale logit(score) + shift) is the probability of being right."""

    scale: Positive
    shift: FiniteFloat

    @property
    def curve(self) -> ScoreCurve:
        """The function of the calibration."""
        return ScoreCurve(self.scale, self.shift)


class Output(Entry):
    """The output of a network, which a head decodes. A subclass has the parameters of one or more layouts."""

    layout: str
    # Names of the file's outputs that the head reads, in the head's order; empty: the file has one output of floats. The items of
    # several outputs are flattened and joined.
    outputs: tuple[Text, ...] = ()
    calibration: Calibration | None = None  # of the scores; None: they are served unchanged

    @property
    def unbiased(self) -> bool:
        """True if crops are cut by UDP's affine, from the middle of the first pixel to the middle of the last one."""
        return False


class HeatmapOutput(Output):
    """(batch, K, height / stride, width / stride) float32 heatmaps, 0..1.

    It is here and not beside its head, because `infer_spec` needs it.
    """

    layout: Literal["heatmaps"]
    stride: Count  # input pixels a heatmap pixel
    sigma: Positive  # heatmap pixels: of the Gaussians that the training targets were drawn with
    flip_shift: Literal[0, 1]  # heatmap pixels by which the mirrored heatmaps are shifted in the flip test


class DetectorOutput(Output):
    """(batch, N, ...) float32 candidates.

    `boxes_scores` is (batch, N, 5): x0 y0 x1 y1 in input pixels and a score 0..1. `yolox` is YOLOX's raw export
    (batch, N, 5 + classes): centre and size in units of the stride, objectness, a score for each class. `yolov8` is the raw export of
    Ultralytics (batch, 4 + classes, N): centre and size in input pixels, a score for each class. `end2end` are rows after suppression
    in the graph, as in `boxes_scores`, so that N differs from image to image. mmdeploy exports them so, with the classes in a second
    output `labels`, which is read only if it is named. Ultralytics has the class in a sixth column.
    """

    strides: Annotated[tuple[Count, ...], Field(min_length=1)] = (8, 16, 32)  # input pixels a grid cell, in the order of the candidates
    person_class: Annotated[int, Field(ge=0)] = 0  # index of the class "person", where a layout has classes


# The parameters of every layout of each task. The heads register them. Their package lies above the registry, so it is loaded by its name,
# when the first manifest is read.
_OUTPUTS: dict[Task, dict[str, type[Output]]] = {"pose": {}, "detector": {}}
_HEADS: Final = "posewire.pipeline.heads"


def register_output(task: Task, layout: str, parameters: type[Output]) -> None:
    """Let manifests describe models of a layout.

    Args:
        task: of the models.
        layout: the value of `output.layout`.
        parameters: validates the table `output`.
    """
    _OUTPUTS[task][layout] = parameters


def _output_of(task: Task, value: object) -> object:
    """Validate the table `output` with the parameters of its layout."""
    layout = value.get("layout") if isinstance(value, dict) else None
    if not isinstance(layout, str):
        return value  # an output already, or of a wrong type
    known = _OUTPUTS[task]
    import_module(_HEADS)
    if layout not in known:
        *names, last = map(repr, sorted(known))
        fault = InitErrorDetails(type="literal_error", loc=("layout",), input=layout, ctx={"expected": f"{', '.join(names)} or {last}"})
        raise ValidationError.from_exception_data("output", [fault])
    return known[layout].model_validate(value)


class _Described(Entry):
    """The common part of all descriptions."""

    name: Name
    title: Text
    licence: Text
    accuracy: tuple[Accuracy, ...] = ()
    provenance: Provenance
    input: ModelInput


class PoseModel(_Described):
    """A top-down pose model: one crop of one person in; the head of its layout turns the output into one position for each keypoint."""

    task: Literal["pose"]
    output: Annotated[SerializeAsAny[Output], BeforeValidator(partial(_output_of, "pose"))]
    keypoints: Annotated[KeypointSet, BeforeValidator(_keypoint_set)]  # the manifest has its name or its file


class DetectorModel(_Described):
    """A person detector: a letterboxed image in (the image at the top left), candidate boxes out."""

    task: Literal["detector"]
    output: Annotated[SerializeAsAny[DetectorOutput], BeforeValidator(partial(_output_of, "detector"))]
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114  # fills the letterbox around the image, all channels
    nms_iou: Annotated[float, Field(gt=0, le=1)]  # overlap above which the box of the lower score is dropped


class WeightsFile(Entry):
    """A file of a network's weights."""

    file: RelativePath  # relative to the manifest
    sha256: Sha256  # of the file, lower-case hexadecimal
    bytes: Count  # size of the file


class _Stored(WeightsFile):
    """The files of a stored model; its own file is the ONNX graph that runs on every backend."""

    card: RelativePath  # the model card, relative to the manifest

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """All files of its weights."""
        return (self,)


class PoseSpec(_Stored, PoseModel):
    """A pose model that can be served."""

    kernels: WeightsFile | None = None  # safetensors for Posewire's kernels; None: it runs on ONNX Runtime only

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """All files of its weights."""
        return (self, self.kernels) if self.kernels else (self,)


class DetectorSpec(_Stored, DetectorModel):
    """A person detector that can be served."""


ModelSpec: TypeAlias = Annotated[PoseSpec | DetectorSpec, Field(discriminator="task")]


class Member(Entry):
    """The file of a zip archive that is the model."""

    name: RelativePath  # its path in the archive, or the end of the path; exactly one file must match
    sha256: Sha256  # of the file, unpacked
    bytes: Count | None = None  # size of the file, unpacked, if known


class RemoteFile(Entry):
    """A published file: its address and its checksum."""

    address: Address
    sha256: Sha256 | None = None  # of the file at the address
    sha256_prefix: Sha256Prefix | None = None  # as its publisher states it, if the whole checksum is unknown
    bytes: Count | None = None  # size of that file, if known
    mirror_name: Name | None = None  # its name on a mirror; None: the last part of the address

    @property
    def file_name(self) -> str:
        """The name of the file on a mirror."""
        return self.mirror_name or self.address.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, or its beginning; empty: only that of its member is known."""
        return self.sha256 or self.sha256_prefix or ""

    @model_validator(mode="after")
    def _has_checksum(self) -> Self:
        sums = [self.sha256, self.sha256_prefix].count(None)
        if sums == 0 or (sums == 2 and self._needs_sum()):
            raise ValueError("one of sha256 and sha256_prefix is needed, and not both")
        return self

    def _needs_sum(self) -> bool:
        return True


class Download(RemoteFile):
    """A model that does not ship: its published files, and the description of the model."""

    member: Member | None = None  # the file at the address is a zip archive, which contains the model
    weights: RemoteFile | None = None  # the constants of an OpenVINO IR; the file at the address is its XML
    # To compile: of Lite-HRNet, from a checkpoint or an IR; of RTMDet, from an ONNX export. None: the file is served unchanged.
    variant: str | None = None
    model: Annotated[PoseModel | DetectorModel, Field(discriminator="task")]

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files that are downloaded."""
        return (self, self.weights) if self.weights else (self,)

    def _needs_sum(self) -> bool:
        return self.member is None  # the checksum of the member suffices

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.variant is not None and self.member is not None:
            raise ValueError("variant is for files to compile, which do not come in zip archives")
        if self.variant is not None:
            of, known = ("RTMDet", tuple(DETECTOR_VARIANTS)) if self.model.task == "detector" else ("Lite-HRNet", tuple(VARIANTS))
            if self.variant not in known:
                raise ValueError(f"variant {self.variant!r} is not of {of}; known: {', '.join(known)}")
        if self.weights is not None and (self.variant is None or self.model.task == "detector"):
            raise ValueError("weights are those of an OpenVINO IR of a pose model, which needs a variant")
        return self
