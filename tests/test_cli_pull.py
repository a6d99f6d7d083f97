"""`posewire models pull` and `show`, as a person runs them."""

import fcntl
import hashlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.registry.store import ModelStore
from posewire.tools.compiler.litehrnet.graph import compile_graph
from tests.compiler.archives import ENTRY, INNER, end2end_model, member, zip_of
from tests.compiler.ir_files import IR_POSE, folded_state, ir_of, write_ir
from tests.compiler.test_graph import HEIGHT, WIDTH, assert_equal, images, random_state, run
from tests.registry.downloads import DETECTOR, DETECTOR_NAME, FILE, POSE, make_store, prefix, whole
from tests.registry.file_server import FileServer, file_server
from tests.sample_images import ASTRONAUT
from tests.test_cli import posewire
from tests.test_cli_compile import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "noise.pth"
    write_checkpoint(path, random_state(get_variant("litehrnet-18")))
    return path.read_bytes()


@pytest.fixture
def server(checkpoint: bytes) -> Iterator[FileServer]:
    with file_server(checkpoint) as files:
        yield files


@pytest.fixture
def settings(tmp_path: Path, server: FileServer) -> dict[str, str]:
    """Of a store that can pull `noise`, which the server has, and `box`, which it has not."""
    noise = POSE.format(address=f"{server.base}/noise-1.pth", proof=prefix(server.content))
    box = DETECTOR.format(address=f"{server.base}/box.onnx", proof=whole(FILE))
    return {"model_store": str(make_store(tmp_path / "store", noise, box)), "cache_dir": str(tmp_path / "cache")}


def test_a_pulled_checkpoint_places_keypoints(tmp_path: Path, settings: dict[str, str], server: FileServer) -> None:
    done = posewire("models", "pull", "noise", **settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"posewire: downloading noise-1.pth, {len(server.content) / 1e6:.1f} MB\n"
    weights = tmp_path / "cache" / "models" / "weights" / "noise.onnx"
    assert done.stdout.splitlines()[0].startswith(f"noise: {weights}, ")
    assert done.stdout.splitlines()[1] == "serve it with POSEWIRE_POSE=noise"
    server.status = 500
    found = json.loads(posewire("predict", ASTRONAUT, "--json", pose="noise", **settings).stdout)
    assert len(found["people"][0]["keypoints"]) == 17
    shown = json.loads(posewire("models", "show", "noise", "--json", **settings).stdout)
    assert (shown["state"], shown["path"], shown["default"]) == ("pulled", str(weights), False)
    assert shown["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert shown["download"]["sha256_prefix"] == hashlib.sha256(server.content).hexdigest()[:8]


def test_a_pulled_ir_places_keypoints(tmp_path: Path) -> None:
    variant = get_variant("wider-naive-litehrnet-18")
    state = folded_state(variant)
    graph, weights = ir_of(variant, state)
    write_ir(tmp_path, graph, weights, "noise-ir")
    proofs = {"proof": whole(graph), "weights_proof": whole(weights).replace("\n", ", ")}
    store = make_store(tmp_path / "store", IR_POSE.format(address="https://nowhere.invalid/a", **proofs))
    settings = {"model_store": str(store), "cache_dir": str(tmp_path / "cache")}
    size = f" {(len(graph) + len(weights)) / 1e6:.1f} "
    assert size in posewire("models", "list", **settings).stdout
    done = posewire("models", "pull", "noise-ir", model_mirror=str(tmp_path), **settings)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 2)  # a line a file
    assert done.stdout.splitlines()[1] == "serve it with POSEWIRE_POSE=noise-ir"
    served = onnx.load(tmp_path / "cache" / "models" / "weights" / "noise-ir.onnx")
    assert_equal(run(served, images(2)), run(compile_graph(variant, state, HEIGHT, WIDTH), images(2)))
    found = json.loads(posewire("predict", ASTRONAUT, "--json", pose="noise-ir", **settings).stdout)
    assert len(found["people"][0]["keypoints"]) == 17
    shown = json.loads(posewire("models", "show", "noise-ir", "--json", **settings).stdout)
    assert shown["download"]["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()


def test_another_folder_is_served_from_by_its_name(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "box.onnx").write_bytes(FILE)
    other = tmp_path / "other"
    done = posewire("models", "pull", "box", "--store", other, model_mirror=str(tmp_path), **settings)
    assert done.stdout.splitlines()[1] == f"serve it with POSEWIRE_MODEL_STORE={other} POSEWIRE_DETECTOR=box"
    verified = posewire("models", "verify", "box", model_store=str(other), cache_dir=settings["cache_dir"])
    assert verified.stdout == "box: ok\n"


def test_a_detector_out_of_a_zip_archive_finds_people(tmp_path: Path, server: FileServer) -> None:
    server.content = zip_of((INNER, end2end_model()))
    people = ENTRY.format(address=f"{server.base}/people-05d8511e.zip", proof=member(end2end_model()))
    settings = {"model_store": str(make_store(tmp_path / "zipped", people)), "cache_dir": str(tmp_path / "cache")}
    shown = posewire("models", "show", "people", **settings).stdout
    assert all(word in shown for word in ("member", "end2end.onnx", hashlib.sha256(end2end_model()).hexdigest(), "can be pulled"))
    done = posewire("models", "pull", "people", **settings)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert done.stdout.splitlines()[1] == "serve it with POSEWIRE_DETECTOR=people"
    found = json.loads(posewire("predict", ASTRONAUT, "--json", detector="people", min_detection_score="0.2", **settings).stdout)
    assert found["people"][0]["box"] == pytest.approx([x * 512 / 320 for x in (96, 0, 160, 320)])


def test_what_is_listed_is_shown(settings: dict[str, str]) -> None:
    listed = json.loads(posewire("models", "list", "--json", **settings).stdout)
    states = {entry["name"]: entry["state"] for entry in listed}
    assert states == {spec.name: "shipped" for spec in ModelStore().manifest.models} | {"noise": "can be pulled", "box": "can be pulled"}
    table = posewire("models", "list", **settings).stdout
    assert all(word in table for word in (*states, *states.values()))
    shown = posewire("models", "show", "box", **settings).stdout
    assert all(word in shown for word in ("Made up", "can be pulled", "/box.onnx", hashlib.sha256(FILE).hexdigest(), "160"))
    shipped = posewire("models", "show", DETECTOR_NAME, **settings).stdout
    assert all(word in shipped for word in ("shipped", "person AP50", "True"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull", "nobody"], ["'nobody' is not a model that can be pulled; known: noise, box"]),
        (["pull", "box"], ["/box.onnx", f"expected {len(FILE)} bytes"]),
        (["show", "nobody"], ["'nobody' is not a model of the manifest", DETECTOR_NAME, "noise"]),
    ],
)
def test_what_cannot_be_done_is_one_line(settings: dict[str, str], arguments: list[str], words: list[str]) -> None:
    done = posewire("models", *arguments, **settings)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert all(word in done.stderr for word in words), done.stderr


def test_without_internet_one_line_says_what_to_do(tmp_path: Path) -> None:
    box = DETECTOR.format(address="https://nowhere.invalid/box.onnx", proof=whole(FILE))
    settings = {"model_store": str(make_store(tmp_path / "store", box)), "cache_dir": str(tmp_path / "cache")}
    done = posewire("models", "pull", "box", **settings)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "https://nowhere.invalid/box.onnx: cannot be reached" in done.stderr
    assert "set POSEWIRE_MODEL_MIRROR to a folder or server that has box.onnx" in done.stderr
    (tmp_path / "box.onnx").write_bytes(FILE)
    assert posewire("models", "pull", "box", model_mirror=str(tmp_path), **settings).returncode == 0


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_the_list_has_one_line_a_model(columns: int) -> None:
    terminal, output = pty.openpty()
    fcntl.ioctl(output, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": "", "TERM": "xterm"}
    command = [sys.executable, "-W", "error", "-m", "posewire", "models", "list"]
    with subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        os.close(output)
        seen = b"".join(iter(lambda: _read(terminal), b"")).decode()
    os.close(terminal)
    assert process.returncode == 0, seen
    lines = seen.splitlines()
    manifest = ModelStore().manifest
    names = [spec.name for spec in manifest.models] + [download.model.name for download in manifest.downloads]
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:6] == ["name", "task", "input", "AP", "MB", "state"]
    assert ("what AP is" in lines[0]) == (columns == 200)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def test_ctrl_c_keeps_what_is_there_and_the_next_pull_goes_on(tmp_path: Path, settings: dict[str, str], server: FileServer) -> None:
    server.hang_after = 1_000_000
    terminal, process = _pull_on_a_terminal(settings)
    assert _read_until(b"1.0/", terminal)
    process.send_signal(signal.SIGINT)
    assert _read_until(b"posewire: interrupted; run it again", terminal)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert (process.returncode, out) == (130, b"")
    part = tmp_path / "cache" / "models" / "noise.part"
    assert part.read_bytes() == server.content[:1_000_000]
    server.ended.set()
    server.hang_after = None
    done = posewire("models", "pull", "noise", **settings)
    assert done.returncode == 0, done.stderr
    assert server.headers["Range"] == "bytes=1000000-"
    assert not part.exists()


def _pull_on_a_terminal(settings: dict[str, str]) -> tuple[int, subprocess.Popen[bytes]]:
    """Start to pull `noise` with a terminal for standard error, where a progress bar is."""
    terminal, error = pty.openpty()
    environment = {"PATH": "", "TERM": "xterm", "COLUMNS": "120", **{f"POSEWIRE_{k.upper()}": v for k, v in settings.items()}}
    command = [sys.executable, "-W", "error", "-m", "posewire", "models", "pull", "noise"]
    # A runner in the background may ignore SIGINT, and a child inherits that: not what it handles.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=error)
    signal.signal(signal.SIGINT, before)
    os.close(error)
    return terminal, process


def _read_until(words: bytes, terminal: int) -> bytes:
    seen = b""
    while words not in seen:
        seen += os.read(terminal, 4096)
    return seen
