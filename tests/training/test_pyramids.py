"""ShuffleNetV2 and MobileNetV2 for poses, as they were and with conditional channel weighting."""

import importlib
from typing import Any

import numpy as np
import onnxruntime
import pytest

from posewire.registry.specs import HeatmapOutput, ModelInput

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
networks: Any = importlib.import_module("model_store.training.networks")
counting: Any = importlib.import_module("model_store.training.counting")
shufflenet: Any = importlib.import_module("model_store.training.shufflenet")
mobilenet: Any = importlib.import_module("model_store.training.mobilenet")

NAMES = ["shufflenetv2", "shufflenetv2-ccw", "mobilenetv2", "mobilenetv2-ccw"]


@pytest.mark.parametrize("name", NAMES)
def test_heatmaps_are_a_quarter_of_the_image(name: str) -> None:
    with torch.inference_mode():
        assert networks.build(name, 16).eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 16, 16, 24)


def test_the_backbones_are_the_published_ones() -> None:
    """Their numbers of parameters are torchvision's, less those of what is left out."""
    shuffle, mobile = shufflenet.ShuffleNetV2(weighted=False), mobilenet.MobileNetV2(weighted=False)
    last_convolution, classifier = 464 * 1024 + 2 * 1024, 1024 * 1000 + 1000
    assert counting.cost(shuffle, 224, 224).parameters == 2_278_604 - last_convolution - classifier
    last_convolution, classifier = 320 * 1280 + 2 * 1280, 1280 * 1000 + 1000
    assert counting.cost(mobile, 224, 224).parameters == 3_504_872 - last_convolution - classifier


def test_multiply_adds_are_what_one_counts_by_hand() -> None:
    plain = torch.nn.Conv2d(3, 24, 3, 2, 1, bias=False)
    assert counting.cost(plain, 64, 32).multiply_adds == 32 * 16 * 24 * 3 * 9
    depthwise = torch.nn.Conv2d(3, 3, 3, 1, 1, groups=3)
    assert counting.cost(depthwise, 64, 32) == counting.Cost(parameters=3 * 9 + 3, multiply_adds=64 * 32 * 3 * 9)


@pytest.mark.parametrize("name", ["shufflenetv2", "mobilenetv2"])
def test_weighting_costs_less(name: str) -> None:
    plain, weighted = (counting.cost(networks.build(n), 256, 192) for n in (name, f"{name}-ccw"))
    assert weighted.parameters < 0.7 * plain.parameters
    assert weighted.multiply_adds < 0.6 * plain.multiply_adds


def test_the_table_tells_the_change(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["counting", "shufflenetv2", "shufflenetv2-ccw"])
    counting.main()
    *_, plain, weighted = capsys.readouterr().out.splitlines()
    assert plain == "| shufflenetv2 | 0.92 M | 135.7 M |"
    assert weighted == "| shufflenetv2-ccw | 0.59 M (-36 %) | 76.8 M (-43 %) |"


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_batch_is_learned_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = networks.build(name, 4)
    images, targets = torch.randn(4, 3, 32, 32), torch.randint(64, (4, 4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(images).flatten(2).transpose(1, 2), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_graph_equals_the_network(name: str) -> None:
    pytest.importorskip("onnxscript", reason="torch's export needs onnxscript")
    export: Any = importlib.import_module("model_store.training.export")
    height, width = 96, 64
    torch.manual_seed(0)
    network = networks.build(name)
    network(torch.randn(8, 3, height, width))  # the norms' statistics
    model = export.export_pose(network, height, width)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [source], [result] = session.get_inputs(), session.get_outputs()
    contract = HeatmapOutput(layout="heatmaps", stride=4, sigma=2.0, flip_shift=1)
    described = ModelInput(height=height, width=width, colour="RGB", mean=(0, 0, 0), std=(1, 1, 1))
    assert (source.name, source.type) == ("input", "tensor(float)")
    assert source.shape[1:] == [3, described.height, described.width]
    assert result.shape[1:] == [17, height // contract.stride, width // contract.stride]
    for batch in (1, 3):
        images = torch.randn(batch, 3, height, width)
        with torch.inference_mode():
            expected = torch.sigmoid(network(images)).numpy()
        found = session.run([result.name], {source.name: images.numpy()})[0]
        assert expected.std() > 0.001, "the maps have vanished: the comparison would say nothing"
        np.testing.assert_allclose(found, expected, rtol=1e-4)
