"""Boxes of the detector's maps, their overlaps, and how far they are from a teacher's."""

import importlib
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS
from posewire.tools.compiler.rtmdet.graph import compile_detector

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
boxes: Any = importlib.import_module("model_store.training.detection.boxes")
answers: Any = importlib.import_module("model_store.training.detection.answers")
rtmdet: Any = importlib.import_module("model_store.training.rtmdet")


@pytest.mark.parametrize("name", DETECTOR_VARIANTS)
def test_the_compiled_graph_gives_the_boxes_of_the_network(name: str) -> None:
    torch.manual_seed(0)
    network = rtmdet.build(name).eval()
    state = {key: value.numpy() for key, value in network.state_dict().items() if not key.endswith(".num_batches_tracked")}
    graph = compile_detector(DETECTOR_VARIANTS[name], state).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    [found] = session.run(["boxes_scores"], {"images": images})
    seen = torch.from_numpy(np.ascontiguousarray(images[..., ::-1])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (rtmdet.MEAN, rtmdet.STD))
    with torch.inference_mode():
        wanted = boxes.decode(network((seen - mean) / std), boxes.cells(64, 96))
    np.testing.assert_allclose(found[..., :4], wanted[..., 1:].numpy(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[..., 4], wanted[..., 0].sigmoid().numpy(), rtol=1e-4, atol=1e-6)


def test_cells_are_rows_of_the_finest_stride_first() -> None:
    grid = boxes.cells(64, 96)
    assert len(grid) == 8 * 12 + 4 * 6 + 2 * 3
    assert grid[[0, 1, 12, 96, 120, 121, 125]].tolist() == [
        [0, 0, 8], [8, 0, 8], [0, 8, 8], [0, 0, 16], [0, 0, 32], [32, 0, 32], [64, 32, 32],
    ]  # fmt: skip


def test_distances_in_strides_are_boxes_in_pixels() -> None:
    maps = [torch.zeros(1, 5, 64 // stride, 96 // stride) for stride in (8, 16, 32)]
    maps[1][0, :, 2, 3] = torch.tensor([0.5, 1, 2, 1.5, 1])
    found = boxes.decode(maps, boxes.cells(64, 96))
    assert found.shape == (1, 126, 5)
    assert found[0, 96 + 2 * 6 + 3].tolist() == [0.5, 48 - 16, 32 - 32, 48 + 24, 32 + 16]
    assert found[0, 125].tolist() == [0, 64, 32, 64, 32]


def test_overlaps() -> None:
    one = torch.tensor([0.0, 0.0, 10.0, 10.0])
    others = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [10.0, 0.0, 20.0, 10.0], [30.0, 0.0, 40.0, 10.0]])
    torch.testing.assert_close(boxes.iou(one, others), torch.tensor([1.0, 1 / 3, 0.0, 0.0]))
    torch.testing.assert_close(boxes.generalised_iou(one, others), torch.tensor([1.0, 1 / 3, 0.0, -0.5]))


def test_only_boxes_that_the_teacher_believes_in_are_compared() -> None:
    wanted = torch.tensor([[[2.0, 0, 0, 10, 10], [-9.0, 0, 0, 10, 10]]])
    own = torch.tensor([[[2.0, 5, 0, 15, 10], [-9.0, 50, 50, 60, 60]]])
    sure = torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(answers.answer_loss(own, wanted).boxes, (1 - torch.tensor(1 / 3)) * sure / (sure + 1))
    assert answers.answer_loss(wanted, wanted).boxes == pytest.approx(0, abs=1e-6)


def test_a_score_costs_more_the_farther_it_is_from_the_teachers() -> None:
    wanted = torch.zeros(1, 4, 5)
    wanted[..., 0] = torch.tensor([4.0, 0.0, -4.0, -9.0])

    def cost(*logits: float) -> float:
        own = wanted.clone()
        own[..., 0] = torch.tensor(logits)
        return float(answers.answer_loss(own, wanted).scores)

    same, near, far = cost(4, 0, -4, -9), cost(3, 0, -4, -9), cost(-4, 0, -4, -9)
    assert same < near < far
    false_alarm = cost(4, 0, -4, 5)
    assert false_alarm > same
