"""Whatever the bytes are: a state dict, or a ModelError of one line that names the file."""

import contextlib
import os
import pickle
import random
import re
import zipfile
from pathlib import Path

import pytest

from posewire.errors import ModelError
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint, require
from tests.compiler.checkpoint_files import FOUR, GOOD, entry, floats, legacy_file, safetensors_file, tensor, zip_file, zipped

DATA = Path(__file__).parent / "data"
OPCODES = [code for name, code in vars(pickle).items() if name.isupper() and isinstance(code, bytes)]
TURNS = int(os.environ.get("POSEWIRE_TEST_FUZZ", "500"))


def samples() -> dict[str, bytes]:
    """A small file of each kind."""
    header = {"__metadata__": {}, "a": entry(2, 2), "b": entry(2, begin=16, end=24), "c": entry(4, dtype="BF16", begin=24, end=32)}
    made = {"a": tensor((2, 2), (1, 2)), "b": tensor((4,), key="1", kind="torch.HalfStorage")}
    return {
        "zip": (DATA / "torch-zip.pth").read_bytes(),
        "legacy": (DATA / "torch-legacy.pth").read_bytes(),
        "safetensors": safetensors_file(header, floats(0, 1, 2, 3, 4, 5, 6, 7)),
        "small zip": zip_file(made, FOUR | {"1": bytes(8)}),
        "small legacy": legacy_file(GOOD),
    }


def whatever(path: Path, content: bytes) -> bool:
    """Whether it was read; any error but a ModelError about the file ends the test."""
    path.write_bytes(content)
    message = ""
    try:
        state = read_checkpoint(path)
    except ModelError as error:
        message = str(error)
    else:
        with contextlib.suppress(ModelError):  # some are not floats
            require(state, {name: array.shape for name, array in state.items()})
    assert re.fullmatch(rf"({re.escape(str(path))}: .+)?", message)
    return not message


@pytest.mark.parametrize("kind", ["small zip", "small legacy", "safetensors"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    content = samples()[kind]
    assert whatever(tmp_path / "cut", content)
    assert not any(whatever(tmp_path / "cut", content[:length]) for length in range(len(content)))


def mutated(content: bytes, dice: random.Random) -> bytes:
    """The bytes with a few of them changed, left out, put in or copied from elsewhere."""
    result = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 4, 16])):
        at, length = dice.randrange(len(result) or 1), dice.choice([1, 1, 2, 4, 8, 40])
        source = dice.randrange(len(result) or 1)
        odd = [dice.randbytes(length), bytes(length), b"\xff" * length, result[source : source + length], b"", dice.choice(OPCODES)]
        kept = dice.choice([0, length])
        result[at : at + kept] = dice.choice(odd)
    return bytes(result)


@pytest.mark.parametrize("kind", list(samples()))
def test_mutated_files_give_a_state_dict_or_a_model_error(tmp_path: Path, kind: str) -> None:
    content, dice = samples()[kind], random.Random(kind)
    read_well = [whatever(tmp_path / "fuzz", mutated(content, dice)) for _ in range(TURNS)]
    assert 0 < sum(read_well) < TURNS, "some damage is to the numbers alone, and cannot be seen"


def test_mutated_pickles_in_a_sound_archive_give_a_state_dict_or_a_model_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "torch-zip.pth") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("/data.pkl"))
    dice = random.Random("pickle")
    damaged = [zipped(list((entries | {name: mutated(entries[name], dice)}).items())) for _ in range(TURNS)]
    assert 0 < sum(whatever(tmp_path / "fuzz", content) for content in damaged) < TURNS
