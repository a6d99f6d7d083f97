"""The file beside the script: which networks Triton serves, how they are called, and how their outputs are read."""

from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from posewire.errors import ModelError
from posewire.registry.keypoint_sets import KeypointSet
from posewire.registry.specs import DetectorSpec, ModelInput, PoseSpec
from posewire.schemas.inference_protocol import MODEL

FILE: Final = "networks.json"
# The names of the networks in Triton.
DETECTOR: Final = f"{MODEL}_detector"
POSE: Final = f"{MODEL}_pose"

_KEYPOINTS: Final = TypeAdapter(KeypointSet)


class Network(BaseModel):
    """A network as a model of Triton."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # its name in Triton
    input: str  # name of the tensor of images
    outputs: tuple[str, ...] = Field(min_length=1)  # names of the tensors that the head reads; several are joined, item by item
    max_batch: int = Field(ge=0)  # items of one request; 0: a request has one item, in a batch of a fixed size


class Networks(BaseModel):
    """Both networks, with what the manifest says of them. Keypoint sets are written out: other manifests may give the name another set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: DetectorSpec
    detector_network: Network
    pose: PoseSpec
    pose_network: Network

    @model_validator(mode="before")
    @classmethod
    def _with_keypoints(cls, content: Any) -> Any:
        pose = content.get("pose") if isinstance(content, dict) else None
        if isinstance(pose, dict) and isinstance(pose.get("keypoints"), dict):
            return {**content, "pose": {**pose, "keypoints": _KEYPOINTS.validate_python(pose["keypoints"])}}
        return content

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the file of a folder.

        Raises:
            ModelError: it is missing, or not of this version of Posewire.
        """
        path = folder / FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}; export the folder again") from None
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ModelError(f"{path}: {where}: {fault['msg']}; export the folder again, with the posewire that Triton has") from None

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def item_shape(described: ModelInput) -> tuple[int, int, int]:
    """Return the shape of one item of a network's input."""
    height, width = described.height, described.width
    return (height, width, 3) if described.format == "uint8-nhwc" else (3, height, width)
