"""What is built: wheels with the kernels for a machine, wheels without, and the source distribution."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib.util import find_spec
from pathlib import Path

import pytest

from posewire.native.library import FILE, load_kernels

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"


def build(kind: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Build with what is installed here, as pip does after it has made an environment for the build."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(folder)]
    clean = {name: value for name, value in os.environ.items() if name not in ("CXX", "KERNELS_TARGET")}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=clean | environment)


def metadata(wheel: Path) -> str:
    archive = zipfile.ZipFile(wheel)
    return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))).decode()


@pytest.fixture(scope="module")
def plain_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a machine whose compiler fails."""
    folder = tmp_path_factory.mktemp("plain")
    before = FILE.stat() if FILE.is_file() else None
    done = build("wheel", folder, CXX="false")
    assert done.returncode == 0, done.stderr
    assert "the kernels cannot be built, ONNX Runtime will run all models" in done.stdout + done.stderr
    assert (FILE.stat() if FILE.is_file() else None) == before
    [wheel] = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The files of the source distribution, with their sizes."""
    folder = tmp_path_factory.mktemp("source")
    done = build("sdist", folder)
    assert done.returncode == 0, done.stderr
    [archive] = folder.iterdir()
    with tarfile.open(archive) as opened:
        return {member.name.partition("/")[2]: member.size for member in opened.getmembers() if member.isfile()}


def test_a_machine_without_a_compiler_gets_a_wheel_without_kernels(plain_wheel: Path) -> None:
    assert plain_wheel.name == f"posewire-{PROJECT['version']}-py3-none-any.whl"
    names = zipfile.ZipFile(plain_wheel).namelist()
    assert "posewire/native/library.py" in names
    assert not [name for name in names if "_kernels." in name]


@pytest.mark.skipif(not FILE.is_file(), reason="the kernels are not built: no C++ compiler was here")
def test_a_wheel_of_this_machine_has_its_kernels_and_is_for_every_python(tmp_path: Path) -> None:
    done = build("wheel", tmp_path)
    assert done.returncode == 0, done.stderr
    [built] = tmp_path.glob("*.whl")
    assert re.fullmatch(rf"posewire-{PROJECT['version']}-py3-none-(?!any)\w+\.whl", built.name)
    content = zipfile.ZipFile(built).read(f"posewire/native/{FILE.name}")
    body, _, checksum = content.rpartition(b"\nposewire-sha256:")
    assert checksum == hashlib.sha256(body).digest()
    library = tmp_path / FILE.name
    library.write_bytes(content)
    assert load_kernels(library).level == load_kernels().level


def test_an_editable_install_without_a_compiler_succeeds_and_keeps_the_kernels_that_it_has(tmp_path: Path) -> None:
    before = FILE.stat() if FILE.is_file() else None
    done = build("editable", tmp_path, CXX="false")
    assert done.returncode == 0, done.stderr
    assert "the kernels cannot be built" in done.stdout + done.stderr
    assert (FILE.stat() if FILE.is_file() else None) == before


def test_a_release_without_kernels_fails(tmp_path: Path) -> None:
    package = tmp_path / "fault" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; sys.exit('no such processor')")
    (tmp_path / "dist").mkdir()
    done = build("wheel", tmp_path / "dist", KERNELS_TARGET="linux-aarch64", PYTHONPATH=str(package.parent))
    assert done.returncode != 0
    assert "the kernels cannot be built for linux-aarch64: no such processor" in done.stderr
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_target_that_does_not_exist_is_an_error_that_names_those_that_do(tmp_path: Path) -> None:
    done = build("wheel", tmp_path, KERNELS_TARGET="linux-vax")
    assert done.returncode != 0
    assert "KERNELS_TARGET=linux-vax: there is no such target; there are linux-x86_64, linux-aarch64" in done.stderr


@pytest.mark.skipif(not find_spec("ziglang"), reason="ziglang is not installed")
def test_a_release_for_another_machine_needs_no_library_of_it(tmp_path: Path) -> None:
    done = build("wheel", tmp_path, KERNELS_TARGET="linux-aarch64")
    assert done.returncode == 0, done.stderr
    [built] = tmp_path.iterdir()
    assert built.name == f"posewire-{PROJECT['version']}-py3-none-manylinux_2_17_aarch64.whl"
    content = zipfile.ZipFile(built).read("posewire/native/_kernels.so")
    assert content[18:20] == b"\xb7\x00"  # the ELF header's machine: AArch64
    assert b"GLIBC_" not in content
    assert b"libc.so" not in content
    assert b"libstdc++" not in content


def test_the_source_distribution_has_what_a_build_needs_and_no_more(source: dict[str, int]) -> None:
    needed = {"hatch_build.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "service/posewire/native/source/run.cpp"}
    assert needed | {"model_store/manifest.toml", "model_store/weights/NOTICE"} <= source.keys()
    folders = {name.partition("/")[0] for name in source if "/" in name}
    assert folders == {"service", "model_store"}
    assert {name.split("/")[1] for name in source if name.startswith("model_store/")} == {"manifest.toml", "weights", "cards"}
    assert not [name for name in source if "_kernels." in name or "__pycache__" in name]


def test_onnx_runtime_is_installed_by_the_plain_name_and_the_old_extra_adds_nothing(plain_wheel: Path) -> None:
    found = message_from_string(metadata(plain_wheel))
    requires = found.get_all("Requires-Dist", [])
    assert [line for line in requires if re.match(r"onnxruntime\b", line) and "extra ==" not in line and "-gpu" not in line]
    assert "cpu" in found.get_all("Provides-Extra", [])
    assert not [line for line in requires if "extra == 'cpu'" in line]


def test_the_readme_of_the_package_has_no_links_into_the_repository(plain_wheel: Path) -> None:
    found = message_from_string(metadata(plain_wheel))
    assert found["Description-Content-Type"] == "text/markdown"
    readme = str(found.get_payload())
    links = re.findall(r"\]\(([^)\s]+)|<(?:img|a)[^>]*\s(?:src|href)=\"([^\"]+)", readme)
    assert len(links) > 3
    assert [link for pair in links for link in pair if link and not re.match(r"https?:|mailto:|#", link)] == []
    here = re.findall(rf"github\.com/posewire/posewire/blob/v{re.escape(PROJECT['version'])}/([^)\s\"#]+)", readme)
    assert here
    assert [path for path in here if not (ROOT / path).exists()] == []


def test_the_changelog_has_the_version_and_what_comes_next() -> None:
    headings = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == PROJECT["version"]
    assert all(date for _, date in headings[1:])
