"""`posewire models compile`, from a checkpoint to a file that ONNX Runtime runs."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from posewire.backends.cpu_kernels.folded import fold, write
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.tools.compiler.litehrnet.graph import compile_graph
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.litehrnet.passes import Passes
from posewire.types import FloatArray
from tests.compiler.checkpoint_files import entry, safetensors_file
from tests.compiler.test_graph import HEIGHT, WIDTH, images, random_state, run
from tests.compiler.test_graph_options import output
from tests.test_cli import posewire

OPTIONS = ("--variant", "litehrnet-18", "--height", str(HEIGHT), "--width", str(WIDTH))


def write_checkpoint(path: Path, state: Mapping[str, FloatArray]) -> None:
    header, content = {}, b""
    for key, values in state.items():
        header[key] = entry(*values.shape, begin=len(content), end=len(content) + values.nbytes)
        content += values.tobytes()
    path.write_bytes(safetensors_file(header, content))


def test_a_checkpoint_becomes_a_graph_that_computes_the_same(tmp_path: Path) -> None:
    variant = get_variant("litehrnet-18")
    state = random_state(variant)
    write_checkpoint(tmp_path / "net.safetensors", state)
    done = posewire("models", "compile", tmp_path / "net.safetensors", *OPTIONS, "--out", tmp_path / "net.onnx")
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "net.onnx").read_bytes()
    assert done.stdout.splitlines() == [
        'file = "net.onnx"',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
        f"bytes = {len(content)}",
        'input.format = "float32-nchw"',
        'output.layout = "heatmaps"',
    ]
    expected = run(compile_graph(variant, state, HEIGHT, WIDTH), images(2))
    np.testing.assert_array_equal(run(onnx.load_from_string(content), images(2)), expected)


def test_a_naive_checkpoint_becomes_weights_for_the_kernels(tmp_path: Path) -> None:
    variant = get_variant("wider-naive-litehrnet-18")
    state = random_state(variant)
    write_checkpoint(tmp_path / "net.safetensors", state)
    options = ("--variant", variant.name, "--out", tmp_path / "kernels.safetensors")
    done = posewire("models", "compile", tmp_path / "net.safetensors", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernels.safetensors").read_bytes() == write(fold(variant, state, sigmoid=False))


def test_options_reach_the_graph(tmp_path: Path) -> None:
    variant = get_variant("litehrnet-18")
    state = random_state(variant)
    write_checkpoint(tmp_path / "net.safetensors", state)
    asked = "--input uint8-nhwc --mean 10 20 30 --std 40 50 60 --output keypoints --sigma 1.5 --sigmoid --precision fp16"
    without = "--without upsample-weights --without share-fuse-term"
    done = posewire(
        "models", "compile", tmp_path / "net.safetensors", *OPTIONS, *asked.split(), *without.split(), "--out", tmp_path / "net.onnx"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3:] == ['input.format = "uint8-nhwc"', 'output.layout = "keypoints"']
    options = GraphOptions(
        "uint8-nhwc",
        mean=(10, 20, 30),
        std=(40, 50, 60),
        output="keypoints",
        sigma=1.5,
        sigmoid=True,
        precision="fp16",
        passes=replace(Passes(), upsample_weights=False, share_fuse_term=False),
    )
    expected = compile_graph(variant, state, HEIGHT, WIDTH, options)
    assert (tmp_path / "net.onnx").read_bytes() == expected.SerializeToString()
    pixels = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    assert output(expected, pixels).shape == (2, 17, 3)


@pytest.mark.parametrize("option", [["--input", "uint8"], ["--output", "boxes"], ["--precision", "int8"]])
def test_a_choice_that_is_not_known_is_refused(tmp_path: Path, option: list[str]) -> None:
    write_checkpoint(tmp_path / "net.safetensors", {})
    done = posewire("models", "compile", tmp_path / "net.safetensors", *OPTIONS, *option, "--out", tmp_path / "net.onnx")
    assert done.returncode == 2
    assert option[1] in done.stderr


def test_the_help_tells_every_option() -> None:
    told = posewire("models", "compile", "--help").stdout
    for option in ("--input", "--mean", "--std", "--output", "--sigma", "--precision", "--without"):
        assert option in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variant", "litehrnet-30"], ["net.safetensors", "missing"]),
        (["--variant", "hrnet"], ["hrnet", "litehrnet-18"]),
        ([*OPTIONS[:2], "--height", "100"], ["multiples of 32"]),
        ([*OPTIONS, "--keypoints", "16"], ["final_layer.weight"]),
        ([*OPTIONS, "--output", "keypoints"], ["needs sigma"]),
        ([*OPTIONS, "--sigma", "2"], ["sigma is for the output keypoints"]),
        ([*OPTIONS, "--mean", "1", "2", "3"], ["mean is for uint8"]),
        ([*OPTIONS, "--input", "uint8-nhwc", "--std", "1", "0", "1"], ["std must be above 0"]),
        ([*OPTIONS, "--without", "fold"], ["'fold' is not a pass", "fold-doubling"]),
    ],
)
def test_what_cannot_be_compiled_leaves_no_file(tmp_path: Path, options: list[str], words: list[str]) -> None:
    write_checkpoint(tmp_path / "net.safetensors", random_state(get_variant("litehrnet-18")))
    done = posewire("models", "compile", tmp_path / "net.safetensors", *options, "--out", tmp_path / "net.onnx")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
