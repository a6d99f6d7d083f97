"""What is to be released, and the manifest entry that it gets."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from model_store.release.about import About
from model_store.release.artefacts import Network
from posewire.errors import ModelError
from posewire.registry.score_curve import ScoreCurve
from posewire.registry.specs import Name
from posewire.tools.evaluate.annotations import Annotations


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The files of a network that are served."""

    onnx: bytes  # runs everywhere
    kernels: bytes | None  # of a pose network, for Posewire's kernels

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Those that there are, by the keys of `Request.files`."""
        files = {"onnx": self.onnx, "kernels": self.kernels}
        return ((kind, content) for kind, content in files.items() if content is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What the command line asked for, read and checked.

    Raises:
        ModelError: the name is not one of a model.
    """

    store: Path  # the folder of the manifest
    name: str
    network: Network
    about: About
    held_out: Annotations  # nothing of it was trained on
    held_out_name: str
    other: Annotations | None  # of training images: what scores are calibrated on; None: they are not
    force: str | None  # why it may ship although it is worse; None: it may not
    default: bool  # whether it is to serve by default
    files_of: str | None = None  # the model whose files it shares: the same network at another size; None: it has its own
    calibration: ScoreCurve | None = None  # of its scores

    def __post_init__(self) -> None:
        try:
            TypeAdapter(Name).validate_python(self.name)
        except ValidationError:
            raise ModelError(f"the name {self.name!r} is not of letters and digits, with dots, dashes and underscores between") from None

    @property
    def files(self) -> dict[str, str]:
        """Paths in the store by what they hold."""
        kinds = {"onnx": "weights/{}.onnx", "kernels": "weights/{}.safetensors", "checkpoint": "checkpoints/{}.safetensors"}
        return {kind: path.format(self.files_of or self.name) for kind, path in kinds.items()} | {"card": f"cards/{self.name}.md"}

    @property
    def dataset(self) -> str:
        """What the accuracy was measured on."""
        return f"{self.held_out_name}: {self.held_out.people} persons on {len(self.held_out.images)} images"


def entry(request: Request, weights: Weights, accuracy: list[dict[str, Any]]) -> dict[str, Any]:
    """The model as a manifest describes it."""
    network, about, files = request.network, request.about, request.files
    told: dict[str, Any] = {"name": request.name, "task": network.task, "title": about.title}
    told |= _file(files["onnx"], weights.onnx) | {"licence": about.licence, "card": files["card"]}
    if weights.kernels is not None:
        told["kernels"] = _file(files["kernels"], weights.kernels)
    told |= network.described()
    if request.calibration is not None:
        told["output"]["calibration"] = {"scale": round(request.calibration.scale, 4), "shift": round(request.calibration.shift, 4)}
    told["provenance"] = {"made_by": about.made_by, "data": about.data, "recipe": about.recipe}
    told["accuracy"] = accuracy
    return told


def _file(path: str, content: bytes) -> dict[str, Any]:
    return {"file": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
