"""RTMDet-nano's network: names, activations, meeting places, and the checkpoints of the scripts that trained it first."""

import importlib
import re
from typing import Any

import pytest

from posewire.errors import ModelError
from posewire.registry.networks.rtmdet import DETECTOR_VARIANTS, DetectorVariant, parameters

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
rtmdet: Any = importlib.import_module("model_store.training.rtmdet")
checkpoints: Any = importlib.import_module("model_store.training.checkpoints")

F = torch.nn.functional


def early_name(name: str) -> str:
    """The name that the first scripts gave a tensor of mmdet's name."""
    name = re.sub(r"^backbone\.stem\.", "stem.", name)
    name = re.sub(r"^backbone\.stage4\.1\.conv1\.", "s4.1.a.", name)
    name = re.sub(r"^backbone\.stage4\.1\.conv2\.", "s4.1.b.", name)
    name = re.sub(r"^backbone\.stage(\d)\.", r"s\1.", name)
    for long, short in (("reduce_layers", "r"), ("top_down_blocks", "t"), ("downsamples", "d"), ("bottom_up_blocks", "b")):
        name = re.sub(rf"^neck\.{long}\.(\d)\.", rf"{short}\1.", name)
    name = name.replace("neck.out_convs.", "o.")
    name = re.sub(r"^bbox_head\.(cls|reg)_convs\.(\d)\.", r"h.\2.\1.", name)
    name = re.sub(r"^bbox_head\.rtm_(c|r)(?:ls|eg)\.(\d)\.", r"h.\2.\1.", name)
    name = re.sub(r"\.blocks\.(\d)\.conv1\.", r".blocks.\1.a.", name)
    name = re.sub(r"\.blocks\.(\d)\.conv2\.", r".blocks.\1.b.", name)
    name = re.sub(r"\.(main|short|final)_conv\.", r".\1.", name).replace(".attention.fc.", ".fc.")
    return name.replace("depthwise_conv.", "0.").replace("pointwise_conv.", "1.").replace(".conv.", ".0.").replace(".bn.", ".1.")


def test_names_and_shapes_are_those_of_the_compiler() -> None:
    state = rtmdet.build("rtmdet-nano").state_dict()
    found = {name: tuple(value.shape) for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    assert found == parameters(DETECTOR_VARIANTS["rtmdet-nano"])


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ModelError, match="known: rtmdet-nano, rtmdet-nano-lean"):
        rtmdet.build("rtmdet-tiny")


def test_names_are_those_of_mmdet() -> None:
    keys = set(rtmdet.build("rtmdet-nano-lean").state_dict())
    assert {
        "backbone.stem.0.conv.weight",
        "backbone.stem.2.bn.running_var",
        "backbone.stage1.0.depthwise_conv.conv.weight",
        "backbone.stage2.1.blocks.1.conv2.pointwise_conv.bn.weight",
        "backbone.stage3.1.attention.fc.bias",
        "backbone.stage4.1.conv2.bn.bias",
        "backbone.stage4.2.final_conv.conv.weight",
        "neck.reduce_layers.1.conv.weight",
        "neck.top_down_blocks.0.blocks.0.conv1.depthwise_conv.conv.weight",
        "neck.downsamples.1.pointwise_conv.bn.bias",
        "neck.bottom_up_blocks.1.short_conv.conv.weight",
        "neck.out_convs.2.depthwise_conv.bn.running_mean",
        "bbox_head.cls_convs.0.1.pointwise_conv.conv.weight",
        "bbox_head.reg_convs.2.0.depthwise_conv.conv.weight",
        "bbox_head.rtm_cls.0.bias",
        "bbox_head.rtm_reg.2.weight",
    } <= keys
    assert not [key for key in keys if "attention" in key and "neck" in key]
    # As mmdet counts them, of one class: 0.99 million.
    assert sum(p.numel() for p in rtmdet.build("rtmdet-nano-lean").parameters()) == 994_423


def test_the_kernels_of_a_block_are_three_and_then_five() -> None:
    block = rtmdet.build("rtmdet-nano-lean").backbone.get_submodule("stage1.1.blocks.0")
    assert block.conv1.depthwise_conv.conv.kernel_size == (3, 3)
    assert block.conv2.depthwise_conv.conv.kernel_size == (5, 5)


@pytest.mark.parametrize("name", DETECTOR_VARIANTS)
def test_an_untrained_network_finds_nobody(name: str) -> None:
    network = rtmdet.build(name).eval()
    with torch.inference_mode():
        maps = network(torch.rand(2, 3, 64, 96))
    assert [tuple(each.shape) for each in maps] == [(2, 5, 8, 12), (2, 5, 4, 6), (2, 5, 2, 3)]
    assert max(each[:, 0].max().sigmoid() for each in maps) < 0.05
    assert min(each[:, 1:].min() for each in maps) > 0


@pytest.mark.parametrize(
    ("variant", "stem", "within"),
    [
        (DETECTOR_VARIANTS["rtmdet-nano"], F.silu, F.silu),
        (DETECTOR_VARIANTS["rtmdet-nano-lean"], F.silu, F.relu),
        (DetectorVariant("x", stem="relu"), F.relu, F.relu),
    ],
)
def test_maps_that_are_met_come_by_way_of_silu(variant: DetectorVariant, stem: Any, within: Any) -> None:
    network = rtmdet.RtmDet(variant)
    assert {layer.activation for layer in network.backbone.stem} == {stem}
    assert network.backbone.get_submodule("stage1.0").depthwise_conv.activation is within
    places = rtmdet.meeting_places(network, "blocks")
    assert ("backbone.stem" in places) == (stem is F.silu)
    kinds = {type(rtmdet.last_norm(network.get_submodule(place))) for place in places}
    assert kinds == {torch.nn.BatchNorm2d}
    maps: dict[str, Any] = {}
    for place in places:
        network.get_submodule(place).register_forward_hook(lambda _m, _i, y, place=place: maps.update({place: y}))
    with torch.inference_mode():
        network.eval()(torch.randn(1, 3, 64, 64))
    assert len(maps) == len(places) == 18 + (stem is F.silu)
    # SiLU goes below 0, as a rectifier does not.
    assert all(-0.28 < each.min() < 0 for each in maps.values())


def test_modules_are_met_after_stages_and_after_the_neck() -> None:
    network = rtmdet.build("rtmdet-nano-lean")
    places = rtmdet.meeting_places(network, "modules")
    assert places[:4] == [f"backbone.stage{n}" for n in (1, 2, 3, 4)]
    assert len(places) == 4 + 4 + 3
    assert rtmdet.last_norm(network.get_submodule("backbone.stage4")) is network.backbone.get_submodule("stage4.2.final_conv.bn")


def test_what_is_no_block_has_no_last_norm() -> None:
    with pytest.raises(TypeError, match="Conv2d has no last norm"):
        rtmdet.last_norm(torch.nn.Conv2d(1, 1, 1))


def test_an_early_checkpoint_is_a_beginning(tmp_path: Any) -> None:
    torch.manual_seed(1)
    saved, loaded = rtmdet.build("rtmdet-nano-lean"), rtmdet.build("rtmdet-nano-lean")
    early = {early_name(name): value for name, value in saved.state_dict().items()}
    assert {
        "stem.0.0.weight",
        "s1.0.0.0.weight",
        "s1.1.main.0.weight",
        "t0.blocks.0.a.0.0.weight",
        "h.0.cls.0.0.0.weight",
        "h.1.r.bias",
    } <= set(early)
    assert {"s4.1.a.0.weight", "s1.1.fc.weight", "o.0.1.1.running_var", "d1.0.0.weight", "b0.final.1.bias"} <= set(early)
    assert not set(early) & set(saved.state_dict())
    torch.save({"ema": early, "m": {}, "var": [torch.ones(1)]}, tmp_path / "last.pt")
    checkpoints.load_weights(tmp_path / "last.pt", loaded, rtmdet.published_name)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_names_of_today_stay() -> None:
    names = list(rtmdet.build("rtmdet-nano-lean").state_dict())
    assert [rtmdet.published_name(name) for name in names] == names
