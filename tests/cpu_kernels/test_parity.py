"""The kernels compute what the network's ONNX graph computes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from posewire.backends.cpu_kernels.folded import fold
from posewire.backends.cpu_kernels.network import plan, supports
from posewire.backends.cpu_kernels.session import KernelSession
from posewire.errors import ModelError
from posewire.native.library import FILE, Kernels, load_kernels
from posewire.registry.networks.litehrnet.spec import VARIANTS, get_variant
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import FloatArray, UInt8Array
from tests.compiler.test_graph import assert_equal, random_state, run

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")

SUPPORTED = ["litehrnet-18", "litehrnet-30", "wider-naive-litehrnet-18"]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def levels() -> list[str]:
    if not FILE.is_file():
        return []
    best = load_kernels().level
    return ["avx2", "avx512"] if best == "avx512" else [best]


def images(count: int, height: int, width: int) -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def normalised(batch: UInt8Array) -> FloatArray:
    values = (batch.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def session(
    name: str, height: int, width: int, *, sigmoid: bool = False, keypoints: int = 17, kernels: Kernels | None = None
) -> KernelSession:
    variant = get_variant(name, keypoints)
    return KernelSession(plan(fold(variant, random_state(variant), sigmoid=sigmoid), height, width, MEAN, STD), kernels)


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("size", [(96, 64), (64, 96), (32, 32), (160, 128)])
@pytest.mark.parametrize("name", SUPPORTED)
def test_heatmaps_are_those_of_the_untouched_graph(name: str, size: tuple[int, int], level: str) -> None:
    variant = get_variant(name)
    plain = compile_graph(variant, random_state(variant), *size, GraphOptions(passes=Passes.none()))
    batch = images(2, *size)
    assert_equal(session(name, *size, kernels=load_kernels(level=level)).run(batch), run(plain, normalised(batch)))


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("name", ["litehrnet-18", "wider-naive-litehrnet-18"])
@pytest.mark.parametrize(("sigmoid", "keypoints"), [(True, 17), (False, 16), (False, 17), (True, 1)])
def test_heatmaps_are_those_of_the_compiled_graph(name: str, sigmoid: bool, keypoints: int, level: str) -> None:
    variant = get_variant(name, keypoints)
    graph = compile_graph(variant, random_state(variant), 64, 64, GraphOptions(sigmoid=sigmoid))
    batch = images(1, 64, 64)
    found = session(name, 64, 64, sigmoid=sigmoid, keypoints=keypoints, kernels=load_kernels(level=level)).run(batch)
    assert_equal(found, run(graph, normalised(batch)))


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_an_image_s_heatmaps_do_not_depend_on_its_batch(count: int) -> None:
    network = session("litehrnet-18", 64, 64)
    batch = images(count, 64, 64)
    found = network.run(batch)
    assert found.shape == (count, 17, 16, 16)
    for image, heatmaps in zip(batch, found, strict=True):
        np.testing.assert_array_equal(network.run(image[None])[0], heatmaps)


def test_a_view_of_an_image_is_read_as_it_looks() -> None:
    network = session("litehrnet-18", 64, 64)
    mirrored = images(2, 64, 64)[:, :, ::-1]
    np.testing.assert_array_equal(network.run(mirrored), network.run(mirrored.copy()))


def test_no_images_give_no_heatmaps() -> None:
    assert session("litehrnet-18", 64, 64).run(images(0, 64, 64)).shape == (0, 17, 16, 16)


def test_a_naive_network_gives_the_same_heatmaps_again() -> None:
    """Its blocks work in place: whatever one run left behind must not reach the next."""
    network = session("wider-naive-litehrnet-18", 64, 96)
    first, other = images(2, 64, 96)[:, None]
    expected = network.run(first)
    network.run(other)
    np.testing.assert_array_equal(network.run(first), expected)


def test_runs_side_by_side_do_not_disturb_each_other() -> None:
    network = session("litehrnet-18", 64, 64)
    batch = images(64, 64, 64)
    expected = network.run(batch)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: network.run(image[None])[0], batch))
    np.testing.assert_array_equal(np.stack(found), expected)


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 64, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8)]
)
def test_another_shape_or_dtype_is_refused(batch: UInt8Array) -> None:
    with pytest.raises(ValueError, match=r"not \(N, 64, 64, 3\) uint8"):
        session("litehrnet-18", 64, 64).run(batch)


def test_a_size_that_the_branches_cannot_halve_is_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 32"):
        session("litehrnet-18", 64, 50)


def test_variants_without_kernels_say_so() -> None:
    assert {name for name in VARIANTS if supports(get_variant(name))} == set(SUPPORTED)
    with pytest.raises(ModelError, match="naive-litehrnet-18 cannot run on Posewire's kernels"):
        session("naive-litehrnet-18", 64, 64)


def test_a_library_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "k.so").write_bytes(b"not a library")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_kernels(tmp_path / "k.so")
    with pytest.raises(ModelError, match="not built: install a C"):
        load_kernels(tmp_path / "none.so")
