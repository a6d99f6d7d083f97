"""Pulling from a real server and from mirrors: a model is there whole or not at all."""

import fcntl
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posewire.errors import ConfigError, PosewireError
from posewire.registry import download as fetch
from posewire.registry.manifest import Manifest, load_manifest
from posewire.registry.networks.litehrnet.spec import get_variant
from posewire.registry.networks.rtmdet import get_detector_variant
from posewire.registry.sources import open_client
from posewire.registry.store import ModelStore
from posewire.tools.compiler.pull import pull
from posewire.tools.compiler.rtmdet.graph import compile_detector
from tests.compiler.checkpoint_files import safetensors_file
from tests.compiler.ir_files import IR_POSE, folded_state, ir_of, write_ir
from tests.compiler.test_rtmdet import export_of, folded_detector
from tests.registry.downloads import DETECTOR, DETECTOR_NAME, FILE, POSE, file_limit, make_store, prefix, whole
from tests.registry.file_server import FileServer, file_server

HALF = len(FILE) // 2
WIDER = get_variant("wider-naive-litehrnet-18")
Pull = Callable[..., ModelStore]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server(FILE) as files:
        yield files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pulled"


@pytest.fixture
def pull_box(tmp_path: Path, root: Path, server: FileServer) -> Pull:
    """Pull the detector `box`, whose file the server has, and open the store that it is in then."""

    def pull_it(proof: str = whole(FILE), mirror: str | None = None, address: str | None = None, limit: int | None = None) -> ModelStore:
        folder = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        entry = DETECTOR.format(address=address or f"{server.base}/v1/box.onnx", proof=proof)
        manifest = load_manifest(make_store(folder, entry) / "manifest.toml")
        with file_limit(limit):
            pull("box", manifest, root, mirror=mirror)
        return ModelStore(folder, root)

    return pull_it


def refusal(pull_box: Pull, **options: object) -> str:
    with pytest.raises(PosewireError) as caught:
        pull_box(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def assert_whole(store: ModelStore, root: Path) -> None:
    spec = store.manifest.get("box", "detector")
    assert store.is_installed(spec)
    assert store.verified_bytes(spec) == FILE
    assert left(root) == ["cards/box.md", "manifest.toml", "weights/box.onnx"]


@pytest.mark.parametrize("proof", [whole(FILE), prefix(FILE)])
def test_a_detector_is_kept_as_it_is(pull_box: Pull, root: Path, server: FileServer, proof: str) -> None:
    store = pull_box(proof)
    assert_whole(store, root)
    spec = store.manifest.get("box", "detector")
    assert (spec.provenance.made_by, spec.nms_iou, spec.output.layout) == ('a "test"', 0.5, "yolox")
    assert (root / spec.card).read_text().startswith("# box\n\nMade up\n\n- Licence: CC0-1.0\n")
    assert server.headers["Accept-Encoding"] == "identity"
    assert "Range" not in server.headers


def test_what_is_there_is_not_fetched_again_unless_it_is_damaged(pull_box: Pull, root: Path, server: FileServer) -> None:
    pull_box()
    pull_box()
    assert len(server.asked) == 1
    (root / "weights" / "box.onnx").write_bytes(FILE[:-1])
    assert_whole(pull_box(), root)
    assert len(server.asked) == 2


@pytest.mark.parametrize("proof", [whole(FILE), prefix(FILE)])
def test_a_cut_connection_is_told_and_gone_on_from(pull_box: Pull, root: Path, server: FileServer, proof: str) -> None:
    server.cut_after = HALF
    assert f"{HALF} bytes are kept, run it again to go on" in refusal(pull_box, proof=proof)
    assert (root / "box.part").read_bytes() == FILE[:HALF]
    server.cut_after = None
    assert_whole(pull_box(proof), root)
    assert (server.headers["Range"], server.headers["If-Range"]) == (f"bytes={HALF}-", '"1"')


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": '"2"'}])
def test_a_server_that_sends_all_again_starts_anew(pull_box: Pull, root: Path, server: FileServer, change: dict[str, object]) -> None:
    server.cut_after, server.content = HALF, bytes(len(FILE))
    refusal(pull_box)
    server.cut_after, server.content = None, FILE
    for name, value in change.items():
        setattr(server, name, value)
    assert_whole(pull_box(), root)
    assert server.headers["Range"] == f"bytes={HALF}-"


@pytest.mark.parametrize(("have", "asked"), [(len(FILE), 1), (len(FILE) + 5, 2)])
def test_more_than_there_is_to_fetch(pull_box: Pull, root: Path, server: FileServer, have: int, asked: int) -> None:
    root.mkdir()
    (root / "box.part").write_bytes((FILE + bytes(5))[:have])
    assert_whole(pull_box(prefix(FILE)), root)
    assert len(server.asked) == asked


def test_a_whole_part_of_a_known_size_needs_no_server(pull_box: Pull, root: Path, server: FileServer) -> None:
    root.mkdir()
    (root / "box.part").write_bytes(FILE)
    assert_whole(pull_box(), root)
    assert server.asked == []


@pytest.mark.parametrize("proof", [whole(FILE), prefix(FILE)])
def test_a_wrong_byte_leaves_nothing(pull_box: Pull, root: Path, server: FileServer, proof: str) -> None:
    server.content = FILE[:HALF] + b"\x99" + FILE[HALF + 1 :]
    assert re.search(r"expected SHA-256 [0-9a-f]{8,64}…?, found [0-9a-f]{64}; nothing was kept", refusal(pull_box, proof=proof))
    assert left(root) == []


def test_another_size_is_refused_before_a_byte_is_fetched(pull_box: Pull, root: Path, server: FileServer) -> None:
    server.content = FILE[:-1]
    assert f"expected {len(FILE)} bytes, found {len(FILE) - 1}; nothing was kept" in refusal(pull_box)
    assert left(root) == []


def test_an_answer_without_a_length_ends_too_soon_or_never(pull_box: Pull, root: Path, server: FileServer) -> None:
    server.length, server.content = False, FILE[:HALF]
    assert f"ended after {HALF} of {len(FILE)} bytes; run it again to go on" in refusal(pull_box)
    server.content = FILE + FILE
    assert f"sends more than {len(FILE)} bytes; nothing was kept" in refusal(pull_box)
    assert left(root) == []


def test_a_file_of_unknown_size_has_a_limit(pull_box: Pull, root: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", HALF)
    assert f"{len(FILE)} bytes are more than {HALF}" in refusal(pull_box, proof=prefix(FILE))
    server.length = False
    assert f"sends more than {HALF} bytes" in refusal(pull_box, proof=prefix(FILE))
    assert left(root) == []


def test_a_full_disk_leaves_nothing(pull_box: Pull, root: Path) -> None:
    assert refusal(pull_box, limit=HALF) == f"{root / 'box.part'}: cannot be written: File too large; choose another folder with --store"
    assert left(root) == []


def test_weights_that_cannot_be_written_leave_the_manifest_as_it_was(pull_box: Pull, root: Path) -> None:
    (root / "weights" / "box.onnx").mkdir(parents=True)
    assert "box.onnx cannot be written: Is a directory" in refusal(pull_box)
    assert left(root) == []


def test_five_redirects_are_followed_and_no_more(pull_box: Pull, root: Path, server: FileServer) -> None:
    server.redirects = ["/a", "/b", "/c", "/d", "/e", "/f"]
    assert "without end" in refusal(pull_box)
    server.redirects = ["/a", "/b", "/c", "/d", "/e"]
    assert_whole(pull_box(), root)


def test_a_redirect_to_another_protocol_is_refused(pull_box: Pull, root: Path, server: FileServer) -> None:
    server.redirects = ["ftp://127.0.0.1/box.onnx"]
    assert "leads to ftp://127.0.0.1, which is refused" in refusal(pull_box)
    with open_client("https://example.org/box.onnx") as client, pytest.raises(PosewireError, match="leads to http://127"):
        client.get(server.base)
    assert left(root) == []


def test_what_the_server_says_is_told_without_a_password(pull_box: Pull, server: FileServer) -> None:
    server.status = 404
    mirror = server.base.replace("//", "//me:secret@")
    assert refusal(pull_box, mirror=mirror).startswith(
        f"{server.base}/box.onnx: the server answered 404 Not Found; POSEWIRE_MODEL_MIRROR must"
    )
    offline = refusal(pull_box, address="http://127.0.0.1:1/box.onnx")
    assert "cannot be reached" in offline
    assert "without internet, set POSEWIRE_MODEL_MIRROR to a folder or server that has box.onnx" in offline


def test_mirrors_have_the_file_by_its_name(pull_box: Pull, root: Path, tmp_path: Path, server: FileServer) -> None:
    folder = tmp_path / "a mirror"
    folder.mkdir()
    assert refusal(pull_box, mirror=str(folder)) == (
        f"{folder}/box.onnx: the mirror's file cannot be read: No such file or directory; "
        f"POSEWIRE_MODEL_MIRROR must name a folder or server that has this file of {server.base}/v1/box.onnx"
    )
    (folder / "box.onnx").write_bytes(FILE)
    for mirror in (str(folder), folder.as_uri()):
        assert_whole(pull_box(mirror=mirror), root)
        (root / "manifest.toml").unlink()
    assert server.asked == []
    assert_whole(pull_box(mirror=f"{server.base}/models/"), root)
    assert server.asked[-1][0] == "/models/box.onnx"


def ir_manifest(folder: Path, address: str, graph: bytes, weights: bytes) -> Manifest:
    proofs = {"proof": whole(graph), "weights_proof": whole(weights).replace("\n", ", ")}
    return load_manifest(make_store(folder, IR_POSE.format(address=address, **proofs)) / "manifest.toml")


def test_of_two_files_the_first_is_kept_while_the_second_comes(tmp_path: Path, root: Path, server: FileServer) -> None:
    graph, weights = ir_of(WIDER, folded_state(WIDER))
    manifest = ir_manifest(tmp_path / "store", server.base, graph, weights)
    server.content, server.cut_after = graph, HALF
    with pytest.raises(PosewireError, match=rf"model\.xml: .*{HALF} bytes are kept"):
        pull("noise-ir", manifest, root)
    (root / "noise-ir.part").write_bytes(graph)
    server.content = weights
    with pytest.raises(PosewireError, match=rf"model\.bin: .*{HALF} bytes are kept"):
        pull("noise-ir", manifest, root)
    parts = ("noise-ir.part", "noise-ir.weights.part")
    assert left(root) == sorted(f"{part}{ending}" for part in parts for ending in ("", ".tag"))
    server.cut_after = None
    pull("noise-ir", manifest, root)
    assert [path for path, _ in server.asked] == ["/model.xml", "/model.bin", "/model.bin"]
    assert server.headers["Range"] == f"bytes={HALF}-"
    assert left(root) == ["cards/noise-ir.md", "manifest.toml", "weights/noise-ir.onnx", "weights/noise-ir.safetensors"]
    card = (root / "cards" / "noise-ir.md").read_text()
    assert all(word in card for word in ("an OpenVINO IR of wider-naive-litehrnet-18", f"{server.base}/model.bin"))


@pytest.mark.parametrize("damage", ["graph", "weights", "both proved"])
def test_a_wrong_byte_in_one_of_two_files_leaves_nothing(tmp_path: Path, root: Path, damage: str) -> None:
    graph, weights = ir_of(WIDER, folded_state(WIDER))
    if damage == "both proved":
        graph = graph.replace(b"Add", b"Sub", 1)
    manifest = ir_manifest(tmp_path / "store", "http://127.0.0.1:1", graph, weights)
    write_ir(tmp_path, graph, weights, "noise-ir")
    if damage != "both proved":
        file = tmp_path / f"noise-ir.{'xml' if damage == 'graph' else 'bin'}"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    said = {"graph": r"\.xml: expected SHA-256", "weights": r"\.bin: expected SHA-256", "both proved": "addition of its bias"}[damage]
    with pytest.raises(PosewireError, match=said):
        pull("noise-ir", manifest, root, mirror=str(tmp_path))
    assert left(root) == []


@pytest.mark.parametrize("mirror", ["ftp://host/models", "file://host/models"])
def test_a_mirror_of_another_kind_is_refused(pull_box: Pull, mirror: str) -> None:
    with pytest.raises(ConfigError, match=f"POSEWIRE_MODEL_MIRROR='{mirror}'"):
        pull_box(mirror=mirror)


def test_a_damaged_mirror_leaves_nothing(pull_box: Pull, root: Path, tmp_path: Path) -> None:
    for content, words in ((FILE[:-1], "expected 10240 bytes, found 10239"), (FILE[:-1] + b"?", "expected SHA-256")):
        (tmp_path / "box.onnx").write_bytes(content)
        assert words in refusal(pull_box, mirror=str(tmp_path))
        assert left(root) == []


def test_two_pulls_into_one_folder_do_not_meet(pull_box: Pull, root: Path) -> None:
    root.mkdir()
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another pull is at work" in refusal(pull_box)


def test_a_store_of_its_own_is_not_written_to(pull_box: Pull, root: Path, server: FileServer) -> None:
    make_store(root)
    before = (root / "manifest.toml").read_bytes()
    assert "is a store of its own" in refusal(pull_box)
    assert (root / "manifest.toml").read_bytes() == before
    assert server.asked == []


def test_only_downloads_can_be_pulled(tmp_path: Path) -> None:
    manifest = load_manifest(make_store(tmp_path / "store") / "manifest.toml")
    with pytest.raises(PosewireError, match="'box' is not a model that can be pulled; known: none"):
        pull("box", manifest, tmp_path)
    with pytest.raises(PosewireError, match=f"'{DETECTOR_NAME}' is here already"):
        pull(DETECTOR_NAME, manifest, tmp_path)


def test_a_checkpoint_that_is_none_leaves_nothing(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = safetensors_file({}, b"")
    (tmp_path / "noise.pth").write_bytes(content)
    entry = POSE.format(address="http://127.0.0.1/noise.pth", proof=whole(content))
    manifest = load_manifest(make_store(tmp_path / "store", entry) / "manifest.toml")
    with pytest.raises(PosewireError, match=r"noise\.part: "):
        pull("noise", manifest, root, mirror=str(tmp_path))
    assert left(root) == []
    monkeypatch.setitem(sys.modules, "posewire.tools.compiler.litehrnet.graph", None)
    with pytest.raises(PosewireError, match=r"pip install 'posewire\[compile\]'"):
        pull("noise", manifest, root, mirror=str(tmp_path))


def test_a_published_rtmdet_is_compiled_to_the_graph_that_takes_pixels(tmp_path: Path, root: Path) -> None:
    state, mirror = folded_detector("rtmdet-nano"), tmp_path / "mirror"
    mirror.mkdir()
    content = export_of(state)
    (mirror / "box.onnx").write_bytes(content)
    entry = DETECTOR.format(address="https://host/box.onnx", proof=f'{whole(content)}\nvariant = "rtmdet-nano"')
    entry = entry.replace('layout = "yolox"', 'layout = "boxes_scores"').replace("{ height", '{ format = "uint8-nhwc", height')
    manifest = load_manifest(make_store(tmp_path / "store", entry) / "manifest.toml")
    pull("box", manifest, root, mirror=str(mirror))
    store = ModelStore(tmp_path / "store", root)
    expected = compile_detector(get_detector_variant("rtmdet-nano"), state).SerializeToString()
    assert store.verified_bytes(store.manifest.get("box", "detector")) == expected


def test_a_file_that_is_no_rtmdet_is_told_and_not_kept(tmp_path: Path, root: Path, server: FileServer) -> None:
    entry = DETECTOR.format(address=f"{server.base}/box.onnx", proof=f'{whole(FILE)}\nvariant = "rtmdet-nano"')
    manifest = load_manifest(make_store(tmp_path / "store", entry) / "manifest.toml")
    with pytest.raises(PosewireError, match="box"):
        pull("box", manifest, root)
    assert left(root) == []
