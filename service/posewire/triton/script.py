"""The model `posewire` of a Triton model repository: images in, people out.

The tensors are those of Posewire's own service (docs/open-inference-protocol.md). The Python environment of Triton needs the package
`posewire`, of the version that exported this folder or a later one. The networks are the models `posewire_detector` and `posewire_pose`
of the same server.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from posewire.triton.model import PoseModel


class TritonPythonModel:
    """Called by Triton's Python backend: https://github.com/triton-inference-server/python_backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load what the folder of this version says of the networks."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self._model = PoseModel(pb_utils, folder, json.loads(args["model_config"]))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; an error is that of its request alone."""
        return [self._model.answer(request) for request in requests]
