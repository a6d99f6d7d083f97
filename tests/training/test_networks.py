import importlib
from typing import Any

import pytest

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant, parameter_count, parameters

# Too big for a test dependency: these tests run where the training environment is.
torch: Any = pytest.importorskip("torch", reason="torch is for training only")
networks: Any = importlib.import_module("model_store.training.networks")
litehrnet: Any = importlib.import_module("model_store.training.litehrnet")


def shapes(network: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(key, tuple(value.shape)) for key, value in network.state_dict().items() if not key.endswith(".num_batches_tracked")]


@pytest.mark.parametrize("keypoints", [17, 16])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_state_dict_is_the_published_checkpoint(name: str, keypoints: int) -> None:
    network, variant = networks.build(name, keypoints), get_variant(name, keypoints)
    assert shapes(network) == list(parameters(variant).items())
    assert sum(p.numel() for p in network.parameters()) == parameter_count(variant)


@pytest.mark.parametrize(("height", "width"), [(256, 192), (128, 96)])
@pytest.mark.parametrize("name", VARIANTS)
def test_heatmaps_are_a_quarter_of_the_image(name: str, height: int, width: int) -> None:
    with torch.inference_mode():
        heatmaps = networks.build(name, 16).eval()(torch.zeros(2, 3, height, width))
    assert heatmaps.shape == (2, 16, height // 4, width // 4)
    assert heatmaps.dtype == torch.float32


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(name: str) -> None:
    network = networks.build(name)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ModelError, match=r"litehrnet-18, litehrnet-30.*shufflenetv2-ccw"):
        networks.build("litehrnet-19")


@pytest.mark.parametrize("name", ["litehrnet-18", "naive-litehrnet-18"])
def test_branches_are_added_in_place_as_the_authors_do(name: str) -> None:
    variant = get_variant(name)
    channels = variant.channels[:3]
    module = litehrnet.FusedModule(variant, channels).double().eval()
    xs = [torch.randn(1, c, 16 >> branch, 16 >> branch, dtype=torch.float64) for branch, c in enumerate(channels)]
    with torch.inference_mode():
        fused, branches = module(xs), module.layers(xs)
        for to, row in enumerate(module.fuse_layers):
            total = branches[0] if to == 0 else row[0](branches[0])
            for source, branch in enumerate(branches):
                term = row[source](branch)
                factor = total.shape[-1] // term.shape[-1]
                total += term.repeat_interleave(factor, 2).repeat_interleave(factor, 3)  # changes branches[0], and so every later row
            torch.testing.assert_close(fused[to], total.relu())
