"""`posewire models compile`, from a checkpoint to a file that ONNX Runtime runs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from posewire.models.litehrnet.graph import compile_graph
from posewire.models.litehrnet.spec import get_variant
from posewire.types import FloatArray
from tests.models.checkpoint_files import entry, safetensors_file
from tests.models.test_graph import HEIGHT, WIDTH, pictures, random_state, run
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
    ]
    expected = run(compile_graph(variant, state, HEIGHT, WIDTH), pictures(2))
    np.testing.assert_array_equal(run(onnx.load_from_string(content), pictures(2)), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--variant", "litehrnet-30"], ["net.safetensors", "missing"]),
        (["--variant", "hrnet"], ["hrnet", "litehrnet-18"]),
        ([*OPTIONS[:2], "--height", "100"], ["multiples of 32"]),
        ([*OPTIONS, "--keypoints", "16"], ["final_layer.weight"]),
    ],
)
def test_what_cannot_be_compiled_leaves_no_file(tmp_path: Path, options: list[str], words: list[str]) -> None:
    write_checkpoint(tmp_path / "net.safetensors", random_state(get_variant("litehrnet-18")))
    done = posewire("models", "compile", tmp_path / "net.safetensors", *options, "--out", tmp_path / "net.onnx")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
