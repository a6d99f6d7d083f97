import numpy as np
import pytest

from posewire.backends.cpu_kernels.folded import fold, read, write
from posewire.errors import ModelError
from posewire.registry.networks.litehrnet.spec import get_variant
from tests.compiler.test_graph import random_state

VARIANT = get_variant("litehrnet-18", 16)
FOLDED = fold(VARIANT, random_state(VARIANT), sigmoid=True)
CONTENT = write(FOLDED)


def test_what_is_written_is_read_again() -> None:
    found = read(CONTENT, "it")
    assert (found.variant, found.sigmoid) == (VARIANT, True)
    assert list(found.state) == list(FOLDED.state)
    for key, values in FOLDED.state.items():
        np.testing.assert_array_equal(found.state[key], values)
    assert write(found) == CONTENT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (CONTENT[:-4], "cannot be read"),
        (CONTENT[:100], "cannot be read"),
        (CONTENT.replace(b"posewire-kernels-1", b"posewire-kernels-2"), "not weights for the kernels"),
        (CONTENT.replace(b'"keypoints":"16"', b'"keypoints":"17"'), "not the weights of litehrnet-18"),
        (CONTENT.replace(b"litehrnet-18", b"litehrnet-30"), "not the weights of litehrnet-30"),
        (CONTENT.replace(b"litehrnet-18", b"litehrnet-99"), "not weights for the kernels"),
        (CONTENT.replace(b"__metadata__", b"__metabase__"), "cannot be read"),
    ],
)
def test_another_file_is_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        read(content, "the model")
    assert str(caught.value).startswith("the model: ")
