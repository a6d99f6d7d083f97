"""Conditional channel weighting, with one branch and with several."""

import importlib
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
weighting: Any = importlib.import_module("model_store.training.channel_weighting")


def branches(channels: list[int], height: int = 16, width: int = 8) -> list[Any]:
    return [torch.randn(2, c, height >> b, width >> b) for b, c in enumerate(channels)]


@pytest.mark.parametrize("channels", [[24], [40, 80], [40, 80, 160, 320]])
@pytest.mark.parametrize("block", ["WeightedDepthwise", "ConditionalChannelWeighting"])
def test_shapes_stay(block: str, channels: list[int]) -> None:
    xs = branches(channels)
    assert [y.shape for y in getattr(weighting, block)(channels).eval()(xs)] == [x.shape for x in xs]


def test_weights_are_between_zero_and_one() -> None:
    xs = branches([16, 32])
    for x, y in zip(xs, weighting.CrossResolutionWeighting([16, 32]).eval()(xs), strict=True):
        assert ((y / x > 0) & (y / x < 1)).all()
    shares = weighting.SpatialWeighting(16)(xs[0]) / xs[0]
    assert ((shares > 0) & (shares < 1)).all()
    torch.testing.assert_close(shares, shares[:, :, :1, :1].expand_as(shares))  # one weight a map


def test_a_branch_hears_of_the_others_around_it_and_of_nothing_else() -> None:
    module = weighting.CrossResolutionWeighting([16, 16]).eval()
    xs = branches([16, 16])
    other = [xs[0], xs[1].clone()]
    other[1][:, :, 2, 1] += 5.0
    moved = (module(other)[0] - module(xs)[0]).abs().amax((0, 1)) > 1e-6
    assert moved[4:6, 2:4].all()
    assert moved.sum() == 4


def test_with_one_branch_a_weight_is_of_its_own_place() -> None:
    module = weighting.CrossResolutionWeighting([16]).eval()
    [x] = branches([16])
    other = x.clone()
    other[:, :, 3, 5] += 5.0
    moved = (module([other])[0] - module([x])[0]).abs().amax((0, 1)) > 1e-6
    assert moved.nonzero().tolist() == [[3, 5]]


def test_half_of_the_channels_pass_by() -> None:
    [x] = branches([16])
    [y] = weighting.ConditionalChannelWeighting([16]).eval()([x])
    torch.testing.assert_close(y[:, ::2], x[:, :8])
    assert not torch.isclose(y[:, 1::2], x[:, 8:]).all()


def test_the_single_branch_wrapper_takes_a_map() -> None:
    block = weighting.ConditionalChannelWeighting([16]).eval()
    [x] = branches([16])
    torch.testing.assert_close(weighting.SingleBranch(block)(x), block([x])[0])


def test_it_costs_less_than_what_it_stands_for() -> None:
    counting: Any = importlib.import_module("model_store.training.counting")
    blocks: Any = importlib.import_module("model_store.training.blocks")
    weighted = counting.cost(MapsOf3(weighting.SingleBranch(weighting.ConditionalChannelWeighting([116]))), 32, 32)
    plain = counting.cost(MapsOf3(blocks.ShuffleUnit(116)), 32, 32)
    assert weighted.multiply_adds < 0.3 * plain.multiply_adds
    assert weighted.parameters < 0.6 * plain.parameters


class MapsOf3(torch.nn.Module):  # type: ignore[misc]
    """An image's first channel as all channels of a block of 116."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, image: Any) -> Any:
        return self.block(image[:, :1].expand(-1, 116, -1, -1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: weighting.ConditionalChannelWeighting([40, 81]), "even"),
        (lambda: weighting.WeightedDepthwise([4]), "4 channels cannot be reduced by 8"),
        (lambda: weighting.SpatialWeighting(8, 16), "8 channels cannot be reduced by 16"),
    ],
)
def test_channels_that_do_not_fit_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
