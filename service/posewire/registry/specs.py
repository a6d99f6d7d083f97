"""What is known of a model: one that has its file, and one that can be pulled."""

from functools import partial
from importlib import import_module
from pathlib import PurePosixPath, PureWindowsPath
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
    model_validator,
)
from pydantic_core import InitErrorDetails

from posewire.registry.keypoint_sets import KEYPOINT_SETS, KeypointSet
from posewire.registry.networks.litehrnet.spec import VARIANTS
from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS
from posewire.registry.score_curve import ScoreCurve
from posewire.types import InputFormat

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
Sha256Prefix: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8,63}$", to_lower=True)]
Address: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https?://\S+/[A-Za-z0-9][A-Za-z0-9._-]*$")]
RelativePath: TypeAlias = Annotated[Text, AfterValidator(_inside)]
Count: TypeAlias = Annotated[int, Field(gt=0)]
Positive: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class Entry(BaseModel):
    """A table of a manifest: never changed, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(Entry):
    """One measured number."""

    dataset: Text
    metric: Text
    value: FiniteFloat
    command: Text  # what measured it


class Provenance(Entry):
    """Where the weights come from."""

    made_by: Text
    data: Text
    recipe: Text


class ModelInput(Entry):
    """What the network takes: float32-nchw is (channel - mean) / std; a network of uint8 does that inside."""

    format: InputFormat = "float32-nchw"
    height: Count  # pixels
    width: Count  # pixels
    colour: Literal["RGB", "BGR"]  # order of the channels; mean and std are in the same order
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]  # of channels 0..255
    std: tuple[Positive, Positive, Positive]  # of channels 0..255


class Calibration(Entry):
    """Platt scaling of scores: sigmoid(scale logit(score) + shift) is the chance of being right."""

    scale: Positive
    shift: FiniteFloat

    @property
    def curve(self) -> ScoreCurve:
        """What applies it."""
        return ScoreCurve(self.scale, self.shift)


class Output(Entry):
    """What a network gives; a head reads it. A subclass has the parameters of one or more layouts."""

    layout: str
    calibration: Calibration | None = None  # of the scores; None: they are served as the network gives them


class HeatmapOutput(Output):
    """(batch, K, height / stride, width / stride) float32 heatmaps, 0..1."""

    layout: Literal["heatmaps"]
    stride: Count  # input pixels a heatmap pixel
    sigma: Positive  # heatmap pixels: of the Gaussians that the training targets were drawn with
    flip_shift: Literal[0, 1]  # heatmap pixels by which the mirrored heatmaps are shifted in the flip test


class KeypointOutput(Output):
    """(batch, K, 3) float32: x y in input pixels and a score 0..1, decoded in the graph by DARK."""

    layout: Literal["keypoints"]
    sigma: Positive  # heatmap pixels: of the Gaussian that the graph smooths with


class DetectorOutput(Output):
    """(batch, N, ...) float32 candidates.

    `boxes_scores` is (batch, N, 5): x0 y0 x1 y1 in input pixels and a score 0..1. `yolox` is YOLOX's raw export
    (batch, N, 5 + classes): centre and size in units of the stride, objectness, a score for each class. `end2end` is what
    mmdeploy exports for a detector of people alone: rows as in `boxes_scores`, after suppression, so that N differs from image to image.
    Outputs beside the rows, such as labels, are not read.
    """

    strides: Annotated[tuple[Count, ...], Field(min_length=1)] = (8, 16, 32)  # input pixels a grid cell, in the order of the candidates
    person_class: Annotated[int, Field(ge=0)] = 0  # index of the class "person" in the yolox layout


# The parameters of every layout of each task. A head of another layout adds its own.
_OUTPUTS: dict[Task, dict[str, type[Output]]] = {
    "pose": {"heatmaps": HeatmapOutput, "keypoints": KeypointOutput},
    "detector": dict.fromkeys(("boxes_scores", "yolox", "end2end"), DetectorOutput),
}
# The package of the heads, a plug-in: it is loaded where a manifest names a layout that is not known here.
_HEADS: Final = "posewire.pipeline.heads"


def register_output(task: Task, layout: str, parameters: type[Output]) -> None:
    """Let manifests describe models of another layout.

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
        return value  # an output already, or refused for its type
    known = _OUTPUTS[task]
    if layout not in known:
        import_module(_HEADS)
    if layout not in known:
        *names, last = map(repr, known)
        fault = InitErrorDetails(type="literal_error", loc=("layout",), input=layout, ctx={"expected": f"{', '.join(names)} or {last}"})
        raise ValidationError.from_exception_data("output", [fault])
    return known[layout].model_validate(value)


class _Described(Entry):
    """What is known of a model wherever its file is."""

    name: Name
    title: Text
    licence: Text
    accuracy: tuple[Accuracy, ...] = ()
    provenance: Provenance
    input: ModelInput


class PoseModel(_Described):
    """A top-down pose model: one crop of one person in, one heatmap or place a keypoint out."""

    task: Literal["pose"]
    output: Annotated[SerializeAsAny[Output], BeforeValidator(partial(_output_of, "pose"))]
    keypoints: Annotated[KeypointSet, BeforeValidator(_keypoint_set)]  # the manifest has its name in `keypoint_sets`


class DetectorModel(_Described):
    """A person detector: a letterboxed picture in (picture at the top left), candidate boxes out."""

    task: Literal["detector"]
    output: Annotated[SerializeAsAny[DetectorOutput], BeforeValidator(partial(_output_of, "detector"))]
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114  # fills the letterbox around the picture, all channels
    nms_iou: Annotated[float, Field(gt=0, le=1)]  # overlap above which the lesser box goes


class WeightsFile(Entry):
    """A file of a network's weights."""

    file: RelativePath  # relative to the manifest
    sha256: Sha256  # of the file, lower-case hexadecimal
    bytes: Count  # size of the file


class _Stored(WeightsFile):
    """The files of a model that is here; its own file is the ONNX graph that runs everywhere."""

    card: RelativePath  # the model card, relative to the manifest

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """All that there are of its weights."""
        return (self,)


class PoseSpec(_Stored, PoseModel):
    """A pose model that can be served."""

    kernels: WeightsFile | None = None  # safetensors for Posewire's own kernels; none: it runs on ONNX Runtime only

    @property
    def files(self) -> tuple[WeightsFile, ...]:
        """All that there are of its weights."""
        return (self, self.kernels) if self.kernels else (self,)


class DetectorSpec(_Stored, DetectorModel):
    """A person detector that can be served."""


ModelSpec: TypeAlias = Annotated[PoseSpec | DetectorSpec, Field(discriminator="task")]


class Member(Entry):
    """The one file of a zip archive that is wanted."""

    name: RelativePath  # its path in the archive, or how that ends; exactly one file must fit
    sha256: Sha256  # of the file, unpacked
    bytes: Count | None = None  # size of the file, unpacked, where known


class RemoteFile(Entry):
    """A published file: where it is, and how to know that it is the right one."""

    address: Address
    sha256: Sha256 | None = None  # of the file at the address
    sha256_prefix: Sha256Prefix | None = None  # what its publisher states where no whole sum is known
    bytes: Count | None = None  # size of that file, where known
    mirror_name: Name | None = None  # its name on a mirror; none: the last part of the address

    @property
    def file_name(self) -> str:
        """Name of the file on a mirror."""
        return self.mirror_name or self.address.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, or how it begins; empty: only that of its member is known."""
        return self.sha256 or self.sha256_prefix or ""

    @model_validator(mode="after")
    def _proved(self) -> Self:
        sums = [self.sha256, self.sha256_prefix].count(None)
        if sums == 0 or (sums == 2 and self._needs_sum()):
            raise ValueError("one of sha256 and sha256_prefix is needed, and not both")
        return self

    def _needs_sum(self) -> bool:
        return True


class Download(RemoteFile):
    """A model that does not ship: the files that it is made of, and the model it becomes."""

    member: Member | None = None  # the file at the address is a zip archive, and this of it is the model
    weights: RemoteFile | None = None  # the file at the address is the XML of an OpenVINO IR, and this has its constants
    variant: str | None = (
        None  # of Lite-HRNet, the file is a checkpoint or an IR; of RTMDet, an ONNX export: to compile; none: it is served as it is
    )
    model: Annotated[PoseModel | DetectorModel, Field(discriminator="task")]

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files that are fetched."""
        return (self, self.weights) if self.weights else (self,)

    def _needs_sum(self) -> bool:
        return self.member is None  # whose sum is as good

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
