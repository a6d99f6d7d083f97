"""The compiled graph against the torch network that it was made from."""

import importlib
from typing import Any

import numpy as np
import pytest

from posewire.models.litehrnet.graph import compile_graph
from posewire.models.litehrnet.spec import VARIANTS, get_variant, parameters
from tests.models.test_graph import HEIGHT, WIDTH, assert_equal, pictures, random_state, run

torch: Any = pytest.importorskip("torch", reason="torch is not installed: the compiled graph is not compared with the network")
networks: Any = importlib.import_module("model_store.training.networks")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_compiled_graph_equals_the_network(name: str) -> None:
    variant = get_variant(name)
    state = random_state(variant)
    network = networks.build(name)
    missing = network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    assert set(state) == set(parameters(variant))
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(pictures(3))).numpy()
    assert_equal(run(compile_graph(variant, state, HEIGHT, WIDTH), pictures(3)), np.asarray(expected))
