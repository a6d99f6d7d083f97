"""The detector's network against the file that ships."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
network: Any = importlib.import_module("model_store.training.detection.network")
boxes: Any = importlib.import_module("model_store.training.detection.boxes")

STORE = Path(__file__).parents[2] / "model_store"


def pictures(count: int) -> Any:
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (count, 3, 320, 320)).astype(np.float32))


def shipped(batch: Any) -> Any:
    session = onnxruntime.InferenceSession(STORE / "weights/persondet-320.onnx", providers=["CPUExecutionProvider"])
    return session.run(["boxes_scores"], {"images": batch.numpy()})[0]


def trained() -> Any:
    detector = network.build()
    detector.load_state_dict(torch.load(STORE / "checkpoints/detector.pt", weights_only=True)["ema"])
    return detector.eval()


def test_the_checkpoint_in_the_network_is_the_model_that_ships() -> None:
    batch = pictures(2)
    with torch.inference_mode():
        answers = trained()(batch / 255)
    expected = shipped(batch)
    assert np.ptp(expected[..., 4]) > 0.01, "scores are alike: the comparison would say nothing"
    np.testing.assert_allclose(answers[..., 1:].numpy(), expected[..., :4], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(torch.sigmoid(answers[..., 0]).numpy(), expected[..., 4], rtol=1e-3, atol=1e-5)


def test_the_exported_graph_is_the_model_that_ships() -> None:
    pytest.importorskip("onnxscript", reason="torch's export needs onnxscript")
    export: Any = importlib.import_module("model_store.training.export")
    model = export.export_detector(trained(), 320, 320)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        [found] = session.run(["boxes_scores"], {"images": pictures(count).numpy()})
        np.testing.assert_allclose(found, shipped(pictures(count)), rtol=1e-4, atol=1e-2)


def test_an_untrained_network_finds_nobody() -> None:
    with torch.inference_mode():
        answers = network.build().eval()(torch.rand(1, 3, 64, 96))
    assert answers.shape == (1, len(boxes.cells(64, 96)), 5)
    assert torch.sigmoid(answers[..., 0]).max() < 0.05
    sides = answers[..., 3:] - answers[..., 1:3]
    assert (sides > 0).all()


def test_cells_are_rows_of_the_finest_stride_first() -> None:
    grid = boxes.cells(64, 96)
    assert len(grid) == 8 * 12 + 4 * 6 + 2 * 3
    assert grid[[0, 1, 12, 96, 120, 121, 125]].tolist() == [
        [4, 4, 8], [12, 4, 8], [4, 12, 8], [8, 8, 16], [16, 16, 32], [48, 16, 32], [80, 48, 32],
    ]  # fmt: skip


def test_overlaps() -> None:
    one = torch.tensor([0.0, 0.0, 10.0, 10.0])
    others = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [10.0, 0.0, 20.0, 10.0], [30.0, 0.0, 40.0, 10.0]])
    torch.testing.assert_close(boxes.iou(one, others), torch.tensor([1.0, 1 / 3, 0.0, 0.0]))
    torch.testing.assert_close(boxes.generalised_iou(one, others), torch.tensor([1.0, 1 / 3, 0.0, -0.5]))
