"""`posewire models quantize`; how fast INT8 is here, no test knows: what is asked is that the verdict, the file and the code agree."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from posewire.cli.quantize import report
from posewire.registry.store import ModelStore
from posewire.tools.bench.comparison import Row
from posewire.tools.quantize.candidate import Candidate, QuantizeOptions
from tests.quantize.test_quantizing import tiny_model
from tests.sample_images import ASTRONAUT, encode, landscape
from tests.test_cli import posewire

STORE = ModelStore()
DETECTOR = STORE.path(STORE.manifest.default("detector"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, and images of the astronaut: `people` has 16, `few` two, `nobody` none."""
    folder = tmp_path_factory.mktemp("quantize")
    (folder / "net.onnx").write_bytes(tiny_model())
    for name, count in (("people", 16), ("few", 2)):
        (folder / name).mkdir()
        for i in range(count):
            (folder / name / f"{i:02}.jpg").write_bytes(ASTRONAUT.read_bytes())
    (folder / "nobody").mkdir()
    (folder / "nobody" / "a.png").write_bytes(encode(landscape(), ".png"))
    return folder


def quantize(work: Path, *arguments: str | Path, model: str = "net.onnx", images: str = "people") -> subprocess.CompletedProcess[str]:
    chosen = ("models", "quantize", work / model, "--images", work / images, "--people", "16", "--rounds", "5", *arguments)
    return posewire(*chosen, min_detection_score="0.5")


def test_a_file_that_is_to_be_kept_is_int8_and_runs(work: Path, tmp_path: Path) -> None:
    done = quantize(work, "--out", tmp_path / "int8.onnx", "--keep")
    assert done.returncode == 3, done.stderr  # without AP nothing is proved
    assert done.stderr == ""
    assert done.stdout.startswith("calibrated on 16 people of 16 images, input as net.onnx\n")
    assert re.search(r"INT8 is (faster|slower|no faster) here: .* ratio \d\.\d{3} \[\d", done.stdout.replace("\n", " "))
    assert "AP was not measured" in done.stdout
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    again = quantize(work, "--out", tmp_path / "again.onnx", "--keep")
    assert again.returncode == 3
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()


def test_what_is_not_kept_leaves_nothing(work: Path, tmp_path: Path) -> None:
    done = quantize(work, "--out", tmp_path / "int8.onnx")
    assert done.returncode == 3
    assert "not written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ratio", "ap", "keep", "code", "written"),
    [
        (0.5, (0.700, 0.696), False, 0, True),
        (0.5, (0.700, 0.710), False, 0, True),
        (0.5, (0.700, 0.694), False, 3, False),
        (1.5, (0.700, 0.700), False, 3, False),
        (1.0, (0.700, 0.700), False, 3, False),
        (0.5, None, False, 3, False),
        (1.5, (0.700, 0.500), True, 3, True),
    ],
)
def test_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, ap: tuple[float, float] | None, keep: bool, code: int, written: bool
) -> None:
    out = tmp_path / "int8.onnx"
    options = QuantizeOptions(tmp_path, None, None, None, out, 16, "pointwise", 5, keep)
    speed = Row(1, 1, "float32", 10 * ratio, 10, ratio, ratio - 0.1, ratio + 0.1)
    assert report(Candidate(b"content", speed, ap), options) == code
    assert out.exists() == written
    told = capsys.readouterr().out
    assert {0.5: "faster", 1.0: "no faster", 1.5: "slower"}[ratio] + " here" in told
    assert ("AP was not measured" if ap is None else f"AP {ap[1] - ap[0]:+.4f}") in told


@pytest.mark.parametrize(
    ("arguments", "model", "images", "words"),
    [
        ([], "net.onnx", "nobody", ["no people on 1 images", "--annotations"]),
        ([], "net.onnx", "few", ["only 2 people", "16"]),
        ([], "few/00.jpg", "people", ["00.jpg", "cannot be opened"]),
        ([], "missing.onnx", "people", ["missing.onnx", "not a model"]),
        ([], str(DETECTOR), "people", [STORE.manifest.default("detector").name, "only pose models"]),
        (["--validate-images", "."], "net.onnx", "people", ["--validate-annotations", "both"]),
        (["--out", "/nowhere/int8.onnx"], "net.onnx", "people", ["/nowhere", "not a folder"]),
    ],
)
def test_what_cannot_be_done_is_one_line(
    work: Path, tmp_path: Path, arguments: list[str], model: str, images: str, words: list[str]
) -> None:
    done = quantize(work, "--out", tmp_path / "int8.onnx", *arguments, model=model, images=images)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_another_output_is_not_known(work: Path, tmp_path: Path) -> None:
    shape = [1, 3, 64, 64]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "none", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), tmp_path / "odd.onnx")
    done = quantize(work, "--out", tmp_path / "int8.onnx", model=str(tmp_path / "odd.onnx"))
    assert done.returncode == 1
    assert "heatmaps (17, 16, 16)" in done.stderr


def test_the_model_is_never_overwritten(work: Path) -> None:
    before = (work / "net.onnx").read_bytes()
    done = quantize(work, "--out", work / "net.onnx", "--keep")
    assert done.returncode == 1
    assert "the model itself" in done.stderr
    assert (work / "net.onnx").read_bytes() == before


def test_ctrl_c_leaves_nothing(work: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    terminal, error = pty.openpty()
    environment = {"PATH": "", "TERM": "xterm", "COLUMNS": "120", "TMPDIR": str(scratch)}
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "posewire",
        "models",
        "quantize",
        str(work / "net.onnx"),
        "--images",
        str(work / "people"),
    ]
    more = ["--people", "16", "--rounds", "1000000", "--out", str(tmp_path / "int8.onnx"), "--keep"]
    # A runner in the background may ignore SIGINT, and a child inherits that: not what it handles.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*command, *more], env=environment, stdout=subprocess.DEVNULL, stderr=error)
    signal.signal(signal.SIGINT, before)
    os.close(error)
    seen = b""
    while b"rounds" not in seen:
        seen += os.read(terminal, 4096)
    process.send_signal(signal.SIGINT)
    while b"nothing was written" not in seen:
        seen += os.read(terminal, 4096)
    assert process.wait(60) == 130
    os.close(terminal)
    assert {path.name for path in tmp_path.rglob("*")} - {".ses"} == {"scratch"}  # .ses is ONNX Runtime's own
