import pytest

from posewire.errors import ModelError
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant, multiply_adds, parameter_count, parameters

COCO, MPII = (len(KEYPOINT_SETS[name].names) for name in ("coco-17", "mpii-16"))

# arXiv 2104.06403, and the tables of https://github.com/HRNet/Lite-HRNet: height, width, keypoints, millions
PUBLISHED = [
    ("litehrnet-18", 256, 192, COCO, 205.2),
    ("litehrnet-18", 384, 288, COCO, 461.6),
    ("litehrnet-18", 256, 256, MPII, 273.4),
    ("litehrnet-30", 256, 192, COCO, 319.2),
    ("litehrnet-30", 384, 288, COCO, 717.8),
    ("litehrnet-30", 256, 256, MPII, 425.3),
    ("naive-litehrnet-18", 256, 192, COCO, 194.8),
    ("naive-litehrnet-18", 256, 256, MPII, 259.6),
    ("wider-naive-litehrnet-18", 256, 192, COCO, 311.1),
]


@pytest.mark.parametrize(("name", "height", "width", "keypoints", "published"), PUBLISHED)
def test_multiply_adds_are_the_published_ones(name: str, height: int, width: int, keypoints: int, published: float) -> None:
    assert round(multiply_adds(get_variant(name, keypoints), height, width) / 2**20, 1) == published


def test_the_published_number_that_fits_no_other_is_met_within_one_percent() -> None:
    assert multiply_adds(get_variant("wider-naive-litehrnet-18", MPII), 256, 256) / 2**20 == pytest.approx(418.7, rel=0.01)


@pytest.mark.parametrize(
    ("name", "exact", "published"),
    [
        ("litehrnet-18", 1_130_769, 1.1),
        ("litehrnet-30", 1_763_717, 1.8),
        ("naive-litehrnet-18", 760_365, 0.7),
        ("wider-naive-litehrnet-18", 1_318_625, 1.3),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, exact: int, published: float) -> None:
    assert parameter_count(get_variant(name)) == exact
    rounded, cut = round(exact / 1e6, 1), exact // 100_000 / 10
    assert published == (cut if name == "naive-litehrnet-18" else rounded)


def test_a_keypoint_more_is_a_filter_and_a_bias_more() -> None:
    assert parameter_count(get_variant("litehrnet-18", 17)) - parameter_count(get_variant("litehrnet-18", 16)) == 40 + 1


def test_an_image_of_no_multiple_of_32_is_refused() -> None:
    for height, width in [(250, 192), (256, 180), (0, 192)]:
        with pytest.raises(ModelError, match=f"32 pixels.*{height}.*{width}"):
            multiply_adds(get_variant("litehrnet-18"), height, width)


def test_an_unknown_variant_names_the_known_ones() -> None:
    with pytest.raises(ModelError) as caught:
        get_variant("litehrnet-19")
    assert all(name in str(caught.value) for name in ("litehrnet-19", *VARIANTS))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_found_by_its_name(name: str) -> None:
    assert get_variant(name) == VARIANTS[name]
    assert get_variant(name).name == name


@pytest.mark.parametrize("name", VARIANTS)
def test_a_checkpoint_begins_at_the_image_and_ends_at_the_keypoints(name: str) -> None:
    shapes = list(parameters(get_variant(name, MPII)).items())
    assert shapes[0] == ("backbone.stem.conv1.conv.weight", (32, 3, 3, 3))
    assert shapes[-2:] == [("final_layer.weight", (MPII, VARIANTS[name].channels[0], 1, 1)), ("final_layer.bias", (MPII,))]


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("backbone.stem.branch1.0.conv.weight", (16, 1, 3, 3)),
        ("backbone.stem.linear_conv.bn.running_var", (16,)),
        ("backbone.transition0.0.2.weight", (40, 32, 1, 1)),
        ("backbone.transition2.3.0.3.bias", (320,)),
        ("backbone.stage1.3.layers.1.cross_resolution_weighting.conv1.conv.weight", (17, 140, 1, 1)),
        ("backbone.stage2.1.layers.0.cross_resolution_weighting.conv2.bn.weight", (300,)),
        ("backbone.stage0.0.layers.0.depthwise_convs.1.conv.weight", (40, 1, 3, 3)),
        ("backbone.stage2.0.layers.1.spatial_weighting.3.conv1.conv.bias", (40,)),
        ("backbone.stage2.0.fuse_layers.0.3.0.weight", (40, 320, 1, 1)),
        ("backbone.stage2.0.fuse_layers.3.0.1.2.weight", (40, 40, 1, 1)),
        ("backbone.stage2.0.fuse_layers.3.0.2.2.weight", (320, 40, 1, 1)),
        ("backbone.head_layer.projects.0.pointwise_conv.conv.weight", (160, 320, 1, 1)),
        ("backbone.head_layer.projects.3.pointwise_conv.conv.weight", (40, 40, 1, 1)),
    ],
)
def test_the_lite_layout_is_the_published_one(key: str, shape: tuple[int, ...]) -> None:
    assert parameters(get_variant("litehrnet-18"))[key] == shape


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("backbone.transition0.0.2.weight", (30, 32, 1, 1)),
        ("backbone.stage0.1.layers.0.1.branch2.0.conv.weight", (15, 15, 1, 1)),
        ("backbone.stage2.1.layers.3.0.branch2.1.conv.weight", (120, 1, 3, 3)),
        ("backbone.stage1.0.layers.2.0.branch2.2.bn.running_mean", (60,)),
        ("backbone.head_layer.projects.3.pointwise_conv.conv.weight", (30, 30, 1, 1)),
    ],
)
def test_the_naive_layout_is_the_published_one(key: str, shape: tuple[int, ...]) -> None:
    assert parameters(get_variant("naive-litehrnet-18"))[key] == shape


def test_branches_that_keep_their_channels_have_no_transition() -> None:
    keys = list(parameters(get_variant("litehrnet-30")))
    assert {key.split(".")[2] for key in keys if ".transition2." in key} == {"3"}
