import importlib
from typing import Any

import numpy as np
import pytest

from model_store.training.targets import encode

torch: Any = pytest.importorskip("torch", reason="torch is not installed: the losses are not tested")
losses: Any = importlib.import_module("model_store.training.losses")

HEATMAPS = torch.from_numpy(encode(np.array([[[20, 24], [8, 40]]], np.float32), 16, 12, 1.15))
WEIGHTS = torch.tensor([[1.0, 1.0]])


def logits(heatmaps: Any) -> Any:
    return torch.logit(heatmaps.clamp(1e-4, 1 - 1e-4))


def test_the_right_heatmap_costs_least() -> None:
    right = losses.pose_loss(logits(HEATMAPS), HEATMAPS, WEIGHTS, 0.25)
    elsewhere = losses.pose_loss(logits(HEATMAPS.roll(3, -1)), HEATMAPS, WEIGHTS, 0.25)
    nowhere = losses.pose_loss(torch.full_like(HEATMAPS, -5), HEATMAPS, WEIGHTS, 0.25)
    assert right < nowhere < elsewhere


@pytest.mark.parametrize("binary", [0.0, 0.25])
def test_the_gradient_leads_to_the_heatmap(binary: float) -> None:
    answers = torch.zeros_like(HEATMAPS, requires_grad=True)
    optimiser = torch.optim.Adam([answers], 0.2)
    for _ in range(200):
        optimiser.zero_grad()
        losses.pose_loss(answers, HEATMAPS, WEIGHTS, binary).backward()
        optimiser.step()
    assert torch.equal(answers.flatten(2).argmax(-1), HEATMAPS.flatten(2).argmax(-1))
    if binary:  # what is served is the sigmoid
        assert (answers.sigmoid() - HEATMAPS).abs().max() < 0.4


def test_a_keypoint_without_weight_teaches_nothing() -> None:
    answers = torch.zeros_like(HEATMAPS, requires_grad=True)
    losses.pose_loss(answers, HEATMAPS, torch.tensor([[1.0, 0.0]]), 0.25).backward()
    assert answers.grad[0, 0].abs().max() > 0
    assert answers.grad[0, 1].abs().max() == 0
    assert losses.pose_loss(answers, HEATMAPS, torch.zeros(1, 2), 0.25) == 0
