"""A torch network into the ONNX file that the service can serve: any batch, one size.

Lite-HRNet and RTMDet have compilers of their own, `posewire models compile`, whose graphs are faster; this is for the other networks.
`posewire.files.write_atomically(path, model.SerializeToString())` puts a model into place.
"""

# A module's docstring tells of its forward.
# ruff: noqa: D102

import warnings

import onnx
import torch
from torch import Tensor, nn

OPSET = 18


class Heatmaps(nn.Module):
    """(N, 3, H, W), normalised, to (N, K, H / 4, W / 4) heatmaps 0..1, of a network that gives logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.network(image))


def export_pose(network: nn.Module, height: int, width: int) -> onnx.ModelProto:
    """As the manifest's `layout = "heatmaps"`: `input`, float32-nchw, normalised, to `heatmaps`, 0..1."""
    return _export(Heatmaps(network), height, width, "input", "heatmaps")


def _export(network: nn.Module, height: int, width: int, source: str, result: str) -> onnx.ModelProto:
    # A batch of two, as torch takes one for a constant. On the CPU: constants of a device would go into the graph.
    network = network.cpu().eval()
    example = torch.zeros(2, 3, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own deprecations, which nobody here can mend
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[source],
            output_names=[result],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with dynamo, always a program
    program.optimize()
    model: onnx.ModelProto = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    return model
