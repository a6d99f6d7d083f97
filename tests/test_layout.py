"""What the repository promises of itself."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from posewire.config import load_settings
from posewire.errors import ConfigError
from posewire.registry.store import ModelStore

ROOT = Path(__file__).parents[1]
OFFLINE_ONLY = {"torch", "model_store"}


def imports(source: Path) -> set[str]:
    """Top-level names of every import in a file, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_service_imports_nothing_of_the_training_side() -> None:
    sources = sorted((ROOT / "service").rglob("*.py"))
    assert len(sources) > 30
    assert {str(s): imports(s) & OFFLINE_ONLY for s in sources if imports(s) & OFFLINE_ONLY} == {}


# From low to high: a room imports itself and what is before it. ONLY names the rooms that import fewer.
ORDER = [
    "errors", "types", "words", "files", "signals", "native", "config", "imaging", "registry", "formats", "backends", "telemetry",
    "pipeline", "video", "webrtc", "engine", "schemas", "triton", "events", "sinks", "cameras", "client", "server", "tools", "batch",
    "cli", "__main__",
]  # fmt: skip
ONLY = {
    "telemetry": {"errors", "types", "files", "native", "config"},
    "formats": {"errors", "types", "registry"},
    "client": {"errors", "types", "imaging", "formats", "schemas"},
    "schemas": {"errors", "types", "registry", "formats"},
    "events": {"errors", "types", "schemas"},
    "triton": {"errors", "types", "config", "imaging", "registry", "formats", "backends", "pipeline", "schemas"},
    "sinks": {"errors", "types", "files", "schemas", "events"},
    "batch": set(ORDER[: ORDER.index("schemas")]),
    "tools": set(ORDER[: ORDER.index("client")]),
}
SERVING = ("server", "engine", "pipeline", "backends", "registry", "triton", "cli.serve")


def modules() -> dict[str, Path]:
    """Every module of the service, by its name without `posewire.`; packages by that of their folder."""
    root = ROOT / "service" / "posewire"
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in root.rglob("*.py")}


def import_graph() -> dict[str, set[str]]:
    """What each module imports of the service, also inside functions. The package `posewire` itself, which gives out names, is left out."""
    files = modules()
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                names = [found for alias in node.names for found in (node.module or "", f"{node.module}.{alias.name}")]
            else:
                continue
            graph[module] |= {name.removeprefix("posewire.") for name in names if name.startswith("posewire.")} & files.keys()
    del graph["__init__"]
    return graph


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every module that is imported when `start` is, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_what_serves_never_imports_the_tools() -> None:
    graph = import_graph()
    serving = [module for module in graph if any(f"{module}.".startswith(f"{room}.") for room in SERVING)]
    assert {"server.app", "cli.serve"} <= set(serving)
    tools = {module: sorted(name for name in reached(graph, module) if name.startswith("tools")) for module in serving}
    assert {module: names for module, names in tools.items() if names} == {}


def test_only_the_command_line_imports_the_tools() -> None:
    importers = {module.partition(".")[0] for module, names in import_graph().items() if any(name.startswith("tools") for name in names)}
    assert importers == {"tools", "cli"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = import_graph()
    assert [module for module in graph if module in reached(graph, module)] == []


def test_no_room_imports_one_above_it() -> None:
    up = []
    for module, names in import_graph().items():
        room = module.partition(".")[0]
        below = ONLY.get(room, set(ORDER[: ORDER.index(room)])) | {room}
        up += [f"{module} imports {name}" for name in sorted(names) if name.partition(".")[0] not in below]
    assert up == []


def test_the_version_is_written_once() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    sources = [path for folder in ("service", "model_store") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in sources if f'"{version}"' in path.read_text()] == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"POSEWIRE_PRT": "1"}, ["POSEWIRE_PRT"]),
        ({"POSEWIRE_PORT": "many"}, ["POSEWIRE_PORT", "many"]),
        ({"POSEWIRE_PORT": "70000"}, ["POSEWIRE_PORT", "70000"]),
        ({"POSEWIRE_LOG_LEVEL": "loud"}, ["POSEWIRE_LOG_LEVEL", "loud"]),
    ],
)
def test_a_bad_setting_is_named(environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environment)
    assert all(word in str(caught.value) for word in words)


def test_command_line_beats_environment_beats_default() -> None:
    assert load_settings({}).port == 8000
    assert load_settings({"POSEWIRE_PORT": "9000", "HOME": "/"}).port == 9000
    assert load_settings({"POSEWIRE_PORT": "9000"}, port=9001, host=None).port == 9001


def pip(*arguments: str | Path) -> None:
    quiet = ["--disable-pip-version-check", "-q", "--no-deps", "--no-build-isolation"]
    command, *rest = arguments
    subprocess.run([sys.executable, "-m", "pip", command, *quiet, *rest, ROOT], check=True)


def test_the_wheel_carries_manifest_weights_cards_and_licences(tmp_path: Path) -> None:
    pip("wheel", "-w", tmp_path)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    manifest = ModelStore().manifest
    assert {f"posewire/_model_store/{path}" for spec in manifest.models for path in (spec.file, spec.card)} <= set(names)
    assert {f"posewire/_model_store/weights/{name}" for name in ("LICENSE", "NOTICE")} <= set(names)
    assert {"posewire/_model_store/manifest.toml", "posewire/web/index.html", "posewire/web/app.js"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "model_store"))]


def test_an_installed_wheel_finds_its_own_models(tmp_path: Path) -> None:
    pip("install", "--target", tmp_path)
    script = "import posewire; from posewire.registry.store import default_root; print(posewire.__file__); print(default_root())"
    environment = {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True, text=True, env=environment)
    package, store = run.stdout.splitlines()
    assert Path(package).is_relative_to(tmp_path)
    assert Path(store) == tmp_path / "posewire" / "_model_store"
