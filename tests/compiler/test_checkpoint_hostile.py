"""Pickles that were made to harm: nothing runs, nothing is read beyond its storage, and it is over soon."""

import copyreg
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewire.errors import ModelError
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint
from tests.compiler.checkpoint_files import (
    FLOATS,
    FOUR,
    GOOD,
    Ops,
    call,
    floats,
    legacy_file,
    named,
    ops,
    persistent,
    read,
    refusal,
    tensor,
    zip_file,
    zipped,
)


def attacks(marker: Path) -> Iterator[Ops]:
    """Values that make a file when they are unpickled."""
    command = f"touch {marker}"
    yield call("os.system", command)
    yield call("posix.system", command)
    yield call("builtins.eval", f"open({str(marker)!r}, 'w')")
    yield Ops(named("os.mkdir") + ops((str(marker),)) + b"\x81")  # NEWOBJ
    yield Ops(named("os.mkdir") + ops((str(marker),)) + ops({}) + b"\x92")  # NEWOBJ_EX
    yield Ops(b"(" + named("os.system") + ops(command) + b"o")  # OBJ
    yield Ops(ops("os") + ops("system") + b"\x93" + ops((command,)) + b"R")  # STACK_GLOBAL
    yield Ops(ops("posixpath") + ops("os.system") + b"\x93" + ops((command,)) + b"R")
    yield Ops(call("collections.OrderedDict") + ops({"__class__": named("os.system"), "__setstate__": named("os.system")}) + b"b")
    yield Ops(named("collections.OrderedDict") + ops((None, {"__call__": named("os.system")})) + b"b")
    yield call("pickle.loads", b"\x80\x02" + call("os.system", command) + b".")
    yield call("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), (0,), b"O")
    yield call("numpy.dtype", "O", False, True)
    yield call("torch._utils._rebuild_parameter", call("os.system", command), True, {})
    yield call("torch._utils._rebuild_tensor_v2", call("os.system", command), 0, (4,), (1,), False, {})
    yield persistent(("storage", named("os.system"), command, "cpu", 4))


@pytest.mark.parametrize("number", range(len(list(attacks(Path())))))
def test_nothing_runs(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "marker"
    attack = list(attacks(marker))[number]
    for file in (zip_file, legacy_file):
        assert list(read(tmp_path, file({"meta": attack, "state_dict": GOOD}))) == ["a"], "what is not looked at does no harm"
        words = refusal(tmp_path, file({"state_dict": GOOD | {"bad": attack}}))
        assert "'bad' of the state dict is not a tensor" in words
    assert not marker.exists()


def test_a_tensor_made_by_others_is_named_with_its_maker(tmp_path: Path) -> None:
    attack = call("torch._tensor._rebuild_from_type_v2", tensor())
    assert "'bad' of the state dict is not a tensor but made by 'torch._tensor._rebuild_from_type_v2'" in refusal(
        tmp_path, zip_file(GOOD | {"bad": attack})
    )


def test_registered_extensions_are_not_reached(tmp_path: Path) -> None:
    copyreg.add_extension("os", "getcwd", 77)
    try:
        for code in (b"\x82\x4d", b"\x83\x4d\0", b"\x84\x4d\0\0\0"):
            assert "opcode" in refusal(tmp_path, zip_file({"meta": Ops(code), "state_dict": GOOD}))
    finally:
        copyreg.remove_extension("os", "getcwd", 77)


@pytest.mark.parametrize(
    "value",
    [
        tensor(numel=2**40),
        tensor(numel=5),
        tensor(numel=-1),
        tensor((5,)),
        tensor((2,), (4,)),
        tensor((4,), (-1,), offset=3),
        tensor((-4,)),
        tensor(offset=1),
        tensor(offset=-1),
        tensor((2**40,), (0,)),
        tensor((2**47, 2**47, 0), (0, 0, 0)),
        tensor((2**70,), (0,)),
        tensor((1,), (2**70,)),
        tensor((1,) * 40, (1,) * 40),
        tensor((1, 4), (1,)),
        tensor((4,), (1.0,)),  # type: ignore[arg-type]
        tensor(key="1"),
        tensor(key="../data.pkl"),
        tensor(kind="torch.ComplexFloatStorage"),
        tensor(kind="torch.storage.TypedStorage"),
        call("torch._utils._rebuild_tensor_v2"),
        call("torch._utils._rebuild_parameter", 1),
        *(
            call("torch._utils._rebuild_tensor_v2", persistent(identity), 0, (4,), (1,), False, {})
            for identity in [
                "0",
                (),
                ("storage",),
                ("module", named("a.b"), None, None),
                ("storage", FLOATS, "0", "cpu", 4),
                ("storage", named(FLOATS), 0, "cpu", 4),
                ("storage", named(FLOATS), "0", "cpu", "4"),
                ("storage", named(FLOATS), "0", "cpu", 4, ("1", 0, 4)),
                ("storage", named(FLOATS), "0", "cpu", 4, None, None),
            ]
        ),
    ],
)
def test_bad_tensors_are_refused_by_name(tmp_path: Path, value: Ops) -> None:
    tree, storages = {"good": tensor(key="good"), "bad": value}, FOUR | {"good": floats(0, 1, 2, 3)}
    assert "'bad'" in refusal(tmp_path, zip_file(tree, storages))
    refusal(tmp_path, legacy_file(tree, storages))


def test_one_storage_cannot_have_two_types(tmp_path: Path) -> None:
    tree = {"a": tensor(), "b": tensor(kind="torch.DoubleStorage", numel=2, size=(2,))}
    for file in (zip_file, legacy_file):
        assert "two sizes or types" in refusal(tmp_path, file(tree))


NESTED = Ops(ops(()) + b"\x85" * 300_000)  # ((((…,),),),): the C stack overflows when it is hashed
TWICE = Ops(ops(()) + b"2\x86" * 200)  # each level twice the one before: 2**200 to hash


@pytest.mark.parametrize(
    "value",
    [
        Ops(b"]" * 300_000 + b"a" * 299_999),
        Ops(b"}" + b"X\x01\0\0\0a}" * 200_000 + b"s" * 200_000),
        Ops(call("torch._utils._rebuild_parameter", call("a.b"), 1, 2) + b"2\x86" * 1000),
        ops({("a", 1): 2, 3: ("b",)}),
        call("collections.OrderedDict", [[NESTED, None]]),
    ],
    ids=["nested lists", "nested dicts", "calls", "tuple key", "ordered dict"],
)
def test_structures_that_break_picklers_are_read_past(tmp_path: Path, value: Ops) -> None:
    assert list(read(tmp_path, zip_file({"meta": value, "state_dict": GOOD}))) == ["a"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Ops(b"}" + NESTED + b"Ns"), "a key"),
        (Ops(b"}" + TWICE + b"Ns"), "a key"),
        (Ops(b"}(" + TWICE + b"Nu"), "a key"),
        (Ops(b"(" + NESTED + b"Nd"), "a key"),
        (Ops(b"}" + NESTED + b"q\0" + b"0}h\0Ns"), "POP"),
        (Ops(b"}(" + NESTED + b"r\x01\0\0\0Nh\x01Nu"), "a key"),
        (Ops(b"\x8f(" + NESTED + b"\x90"), "EMPTY_SET"),
        (Ops(b"Nr" + struct.pack("<I", 2**32 - 1)), "gaps"),
        (
            Ops(
                call("torch._utils._rebuild_tensor_v2", persistent(("storage", named(FLOATS), "0", "cpu", 4)), 0, (4,), (1,))
                + ops({"size": (2**70,)})
                + b"b"
            ),
            "damaged",
        ),
        (Ops(persistent(("storage", named(FLOATS), "0", "cpu", 4)) + ops([0, 0, (2**70,)]) + b"b"), "damaged"),
        (Ops(b"(" + b"".join(named(f"a.b{i}") for i in range(1001)) + b"t"), "classes"),
    ],
    ids=["nested", "doubled", "doubled in many", "dict", "pop", "memo", "set", "memo with gaps", "tensor", "storage", "classes"],
)
def test_structures_that_break_unpicklers_are_refused(tmp_path: Path, value: Ops, words: str) -> None:
    assert words in refusal(tmp_path, zip_file({"meta": value, "state_dict": GOOD}))


@pytest.mark.parametrize(
    "value",
    [
        Ops(b"\x8e" + struct.pack("<Q", 2**62)),  # BINBYTES8
        Ops(b"\x96" + struct.pack("<Q", 2**40)),  # BYTEARRAY8
        Ops(b"\x8b\xff\xff\xff\x7f"),  # LONG4
        Ops(b"X\xff\xff\xff\x7f"),
        Ops(ops("m" * 100_000) + b"q\x00" + b"0(" + b"h\x00h\x00\x93" * 50_000 + b"l"),
        Ops(b"\x94"),
        Ops(b"h\x07"),
        Ops(b"t"),
        Ops(b"R"),
        Ops(b"(o"),
        Ops(b"Na"),
        Ops(b"NNNs"),
        Ops(b"}(Nu"),
        Ops(b"NN\x93"),
        Ops(b"cos\nsys"),
        Ops(b"X\x01\0\0\0\xff"),
        Ops(b"ios\nsystem\n"),
        Ops(b"Pos\n"),
        Ops(b"S'\\d'\n"),
    ],
)
def test_damaged_pickles_are_refused_in_little_memory(tmp_path: Path, value: Ops) -> None:
    content = b"\x80\x02" + value + b"."
    (tmp_path / "made.pth").write_bytes(zipped([("archive/data.pkl", content)]))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read_checkpoint(tmp_path / "made.pth")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 60 * len(content)
    finally:
        tracemalloc.stop()


def test_endless_pickles_are_refused(tmp_path: Path) -> None:
    assert "more than 1000000 steps" in refusal(tmp_path, legacy_file(Ops(b"N" * 1_000_001), {}))


def test_views_cannot_add_up_to_more_than_the_file(tmp_path: Path) -> None:
    tree = {f"a{i}": tensor((1000,), numel=1000) for i in range(100)}
    assert "more values than a file" in refusal(tmp_path, zip_file(tree, {"0": bytes(4000)}))
