"""OpenVINO IRs: the weights come out under the names of a checkpoint, and a damaged file is refused in one line."""

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import Variant, get_variant, parameters
from posewire.tools.compiler.compiling import compile_state, read_state
from posewire.tools.compiler.litehrnet.options import GraphOptions
from posewire.tools.compiler.openvino_ir import read_ir
from tests.compiler.ir_files import TINY, folded_state, ir_of, write_ir

SHARED = Path(os.environ.get("POSEWIRE_SHARED") or Path(__file__).parents[3] / "shared")
GRAPH, WEIGHTS = ir_of(TINY, folded_state(TINY))


def refusal(folder: Path, graph: bytes = GRAPH, weights: bytes = WEIGHTS) -> str:
    """The message about an IR, after the path of its XML file."""
    paths = write_ir(folder, graph, weights)
    with pytest.raises(ModelError) as caught:
        read_state(paths[0], TINY, paths[1])
    message = str(caught.value)
    assert message.startswith(f"{paths[0]}: ")
    assert "\n" not in message
    return message.removeprefix(f"{paths[0]}: ")


@pytest.mark.parametrize("kind", ["f16", "f32"])
@pytest.mark.parametrize("variant", [TINY, get_variant("wider-naive-litehrnet-18")], ids=lambda variant: variant.name)
def test_the_weights_are_those_that_were_written(tmp_path: Path, kind: str, variant: Variant) -> None:
    state = folded_state(variant)
    graph, weights = write_ir(tmp_path, *ir_of(variant, state, kind))
    found = read_state(graph, variant, weights)
    assert list(found) == list(parameters(variant))
    for key, values in state.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"</net>", b"", "not valid XML: no element found"),
        (b'<?xml version="1.0"?>', b'<?xml version="1.0" encoding="klingon"?>', "not valid XML"),
        (b"<net ", b'<!DOCTYPE net [<!ENTITY a "aaaa">]><net ', "has a document type"),
        (b"<layers>", b"<parts>" * 40, "within each other"),
        (b'id="3"', b'id="2"', "two layers have the id '2'"),
        (b'id="3" name', b"name", "a layer has no id"),
        (b'from-layer="1"', b'from-layer="99999"', "an edge names the layer '99999', which is not there"),
        (b'to-layer="2" to-port="0"', b'to-layer="2"', "a edge has no to-port"),
        (b'to-layer="3" to-port="1"', b'to-layer="3" to-port="0"', "has two sources at its input '0'"),
        (b'to-layer="3" to-port="1"', b'to-layer="3" to-port="2"', "has nothing at its input '1'"),
        (b'type="Const"', b'type="Parameter"', "is not a constant"),
        (b'type="Add"', b'type="Multiply"', "is not followed by the addition of its bias"),
        (b"conv2d_7.tmp_1", b"batch_norm2d_0.w_1", "have the same norm, or none: their order is not known"),
        (b'type="Convolution"', b'type="MatMul"', "convolutions; tiny has"),
        (b'element_type="f16"', b'element_type="u8"', "is 'u8'; convolutions have f16 or f32"),
        (b'element_type="f16"', b'element_type="f32"', "bytes, which does not fit"),
        (b'offset="0"', b'offset="-2"', "has no valid offset"),
        (b'offset="0"', b"", "has no valid offset"),
        (b'offset="0"', b'offset="999999999"', f"the file of the weights at {len(WEIGHTS)}"),
        (b'offset="0"', b'offset="' + b"9" * 5000 + b'"', "has no valid offset"),
    ],
)
def test_a_damaged_graph_is_refused(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    assert old in GRAPH
    assert said in refusal(tmp_path, GRAPH.replace(old, new, 1))


def test_xml_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, b"<html><layers/></html>") == "not an OpenVINO IR: it has no layers"


def test_shapes_of_another_network_are_refused(tmp_path: Path) -> None:
    other = replace(TINY, channels=(16, 16, 32, 64))
    assert "of another shape" in refusal(tmp_path, *ir_of(other, folded_state(other)))
    for shape in (b'shape=""', b'shape="0, 3"', b'shape="1, 1, 1, 1, 1, 1, 1"', b'shape="1, -3"'):
        start = GRAPH.index(b"shape=")
        end = GRAPH.index(b'"', start + len(b'shape="')) + 1
        assert "the constant" in refusal(tmp_path, GRAPH[:start] + shape + GRAPH[end:])


def test_weights_that_are_cut_short_or_no_numbers_are_refused(tmp_path: Path) -> None:
    assert f"the file of the weights at {len(WEIGHTS) - 1}" in refusal(tmp_path, weights=WEIGHTS[:-1])
    assert "not finite" in refusal(tmp_path, weights=b"\xff" * len(WEIGHTS))


def test_whatever_is_damaged_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """No other error, whichever bytes change."""
    chance = random.Random(0)
    refusals = []
    for _ in range(100):
        graph = bytearray(GRAPH)
        for _ in range(chance.randint(1, 4)):
            graph[chance.randrange(len(graph))] = chance.randrange(256)
        paths = write_ir(tmp_path, bytes(graph[: chance.choice([len(graph), chance.randrange(len(graph))])]), WEIGHTS)
        try:
            read_state(paths[0], TINY, paths[1])
        except ModelError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert not any("\n" in message for message in refusals)


def test_files_that_are_missing_or_far_too_large_are_refused(tmp_path: Path) -> None:
    graph, weights = write_ir(tmp_path, GRAPH, WEIGHTS)
    with pytest.raises(ModelError, match=r"nowhere\.bin: cannot be read: No such file"):
        read_ir(graph, tmp_path / "nowhere.bin", TINY)
    with graph.open("ab") as handle:
        handle.truncate(1 << 24)
    with pytest.raises(ModelError, match=r"net\.xml: more than 8388608 bytes"):
        read_ir(graph, weights, TINY)


@pytest.mark.parametrize("size", [(128, 96), (256, 192)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_published_files_give_the_heatmaps_of_openvino(size: tuple[int, int]) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    graph = SHARED / "teachers" / f"tinypose-{size[0]}x{size[1]}.xml"
    if not graph.is_file():
        pytest.skip(f"{graph} is not there")
    variant = get_variant("wider-naive-litehrnet-18")
    ours = compile_state(read_state(graph, variant, graph.with_suffix(".bin")), variant, *size, GraphOptions())
    image = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    session = onnxruntime.InferenceSession(ours, providers=["CPUExecutionProvider"])
    [found] = session.run(["heatmaps"], {"input": image})
    expected = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
