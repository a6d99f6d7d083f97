"""The C++ operators against torch's own."""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch", reason="torch is for training only")
operators: Any = importlib.import_module("model_store.training.operators")
networks: Any = importlib.import_module("model_store.training.networks")

NINJA = shutil.which("ninja") or Path(sysconfig.get_path("scripts"), "ninja").exists()
pytestmark = pytest.mark.skipif(not (shutil.which("g++") and NINJA), reason="the C++ operators need g++ and ninja")


@pytest.fixture(autouse=True)
def _torch_again() -> Iterator[None]:
    yield
    operators.use_native(False)


def maps(*shapes: tuple[int, ...]) -> list[Any]:
    return [torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_() for shape in shapes]


CASES: list[tuple[Any, list[tuple[int, ...]]]] = [
    (operators.split, [(2, 12, 6, 4)]),
    (operators.join_shuffled, [(2, 6, 6, 4), (2, 6, 6, 4)]),
    (operators.weigh, [(3, 5, 8, 4), (3, 5, 1, 1)]),
    (operators.weigh, [(3, 5, 8, 4), (3, 5, 2, 1)]),
    (operators.weigh, [(3, 5, 8, 4), (3, 5, 8, 4)]),
    (lambda x, w: operators.weigh(x, w.split([3, 5, 4], 1)[1]), [(3, 5, 8, 4), (3, 12, 4, 2)]),
    (operators.add_repeated, [(2, 7, 8, 4), (2, 7, 4, 2), (2, 7, 2, 1)]),
    (partial(operators.add_repeated, relu=True), [(2, 7, 8, 4), (2, 7, 8, 4), (2, 7, 4, 2)]),
    (operators.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), [(2, 6, 8, 6)]),
]


def values_and_gradients(operation: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    torch.manual_seed(0)
    inputs = maps(*shapes)
    found = operation(*inputs)
    outputs = list(found) if isinstance(found, tuple) else [found]
    sum((y * torch.randn(y.shape)).sum() for y in outputs).backward()
    return [*outputs, *(x.grad for x in inputs)]


@pytest.mark.parametrize(("operation", "shapes"), CASES)
def test_an_operator_and_its_gradient_are_torchs(operation: Any, shapes: list[tuple[int, ...]]) -> None:
    expected = values_and_gradients(operation, shapes)
    operators.use_native()
    found = values_and_gradients(operation, shapes)
    assert type(found[0].grad_fn) is not type(expected[0].grad_fn), "torch's own operator ran"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["litehrnet-18", "naive-litehrnet-18", "shufflenetv2-ccw"])
def test_a_step_of_training_is_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = networks.build(name).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)

    def step() -> tuple[Any, dict[str, Any]]:
        network.zero_grad()
        heatmaps = network(images)
        heatmaps.square().mean().backward()
        return heatmaps.detach(), {key: p.grad.clone() for key, p in network.named_parameters()}

    expected, gradients = step()
    operators.use_native()
    found, others = step()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    largest = max(float(g.abs().max()) for g in gradients.values())
    for key, gradient in gradients.items():
        torch.testing.assert_close(others[key], gradient, rtol=1e-2, atol=1e-4 * largest, msg=key)


def test_other_maps_go_through_torch() -> None:
    operators.use_native()
    x = torch.randn(2, 12, 6, 4)
    assert torch.equal(torch.cat(operators.split(x), 1), x)
    assert operators.split(x.bfloat16().to(memory_format=torch.channels_last))[0].dtype == torch.bfloat16


def test_without_a_compiler_it_says_what_to_do(tmp_path: Path) -> None:
    script = "from model_store.training.operators import use_native; use_native()"
    environment = os.environ | {"CXX": "/nonexistent/g++", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "RuntimeError: the C++ operators need g++ and ninja (pip install ninja); training works without them" in run.stderr
