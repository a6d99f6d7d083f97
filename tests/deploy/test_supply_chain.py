"""What the images are made of is known: by digest where it can be, by a list where it cannot yet."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from posewire.config import Settings
from posewire.registry.store import ModelStore
from tests.deploy.tools import ROOT

PIN = ROOT / "docker/pin_images.py"
DIGEST = "sha256:" + "5a" * 32


def pin(*arguments: str | Path, path: str | None = None) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | ({} if path is None else {"PATH": path})
    return subprocess.run([sys.executable, PIN, *arguments], check=False, capture_output=True, text=True, env=environment)


def listed(root: Path) -> set[str]:
    lines = (root / "docker/unpinned.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def tool(folder: Path, name: str, answer: str) -> str:
    """A PATH with one program, which prints that."""
    folder.mkdir()
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return str(folder)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that name images, to be changed."""
    for name in ("docker", "k8s"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_image_of_others_has_a_digest_or_is_listed_as_one_that_has_none_yet() -> None:
    missing = {line.split()[0] for line in pin("--check").stdout.splitlines()}
    assert missing == listed(ROOT)


def test_an_image_that_nobody_pinned_or_listed_is_found(checkout: Path) -> None:
    (checkout / "k8s/new.yaml").write_text("spec:\n  containers:\n    - image: example.org/proxy:1\n    - image: posewire:0.1.0-cpu\n")
    (checkout / "docker/Dockerfile.new").write_text("FROM example.org/base:2 AS build\nFROM build\nFROM scratch\n")
    done = pin("--check", checkout)
    assert done.returncode == 1
    assert {line.split()[0] for line in done.stdout.splitlines()} - listed(checkout) == {"example.org/proxy:1", "example.org/base:2"}


@pytest.mark.parametrize("name", ["skopeo", "crane", "docker"])
def test_digests_are_written_behind_every_tag_and_the_list_is_then_empty(checkout: Path, tmp_path: Path, name: str) -> None:
    before = listed(checkout)
    done = pin(checkout, path=tool(tmp_path / "bin", name, DIGEST))
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"{reference}@{DIGEST}" for reference in before}
    assert pin("--check", checkout).returncode == 0
    assert listed(checkout) == set()
    for kind in ("cpu", "gpu"):
        assert f"ARG BASE=docker.io/library/debian:trixie-slim@{DIGEST}\n" in (checkout / f"docker/Dockerfile.{kind}").read_text()
    assert (checkout / "docker/compose.yaml").read_text().count(DIGEST) == 2
    assert pin(checkout, path=str(tmp_path / "bin")).stdout.strip() == ""  # and nothing is left to do


@pytest.mark.parametrize(("name", "answer"), [("crane", "no such tag"), ("curl", "")])
def test_what_no_registry_told_is_not_written(checkout: Path, tmp_path: Path, name: str, answer: str) -> None:
    before = {path: path.read_text() for path in (checkout / "docker").glob("*") if path.is_file()}
    done = pin(checkout, path=tool(tmp_path / "bin", name, answer))
    assert done.returncode == 1
    assert "did not tell" in done.stderr if answer else "is installed" in done.stderr
    assert {path: path.read_text() for path in before} == before


def test_both_images_carry_the_list_of_their_packages_from_a_locked_tool() -> None:
    for kind in ("cpu", "gpu"):
        assert "COPY --from=build /opt/sbom /usr/share/sbom\n" in (ROOT / f"docker/Dockerfile.{kind}").read_text()
    steps = (ROOT / "docker/install.sh").read_text()
    assert "--require-hashes -r requirements/sbom.lock" in steps
    lock = (ROOT / "requirements/sbom.lock").read_text()
    assert re.search(r"^cyclonedx-bom==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)


def test_the_licence_of_the_weights_lies_beside_them_and_the_notice_tells_of_every_file() -> None:
    weights = ROOT / "model_store/weights"
    assert (weights / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    notice = " ".join((weights / "NOTICE").read_text().split())
    for path in weights.iterdir():
        assert path.name in ("LICENSE", "NOTICE") or path.stem in notice, path.name
    for spec in ModelStore().manifest.models:
        assert spec.name in notice
        card = (ROOT / "model_store" / spec.card).read_text()
        for source in ("COCO train2017", "Human Dataset v2", "100 Sports", "Stanford 40 Actions", "LSP extended"):
            assert source not in card or source in notice, f"{spec.card} names {source}"


def test_security_names_settings_that_there_are() -> None:
    text = (ROOT / "SECURITY.md").read_text() + (ROOT / "docs/supply-chain.md").read_text()
    named = set(re.findall(r"POSEWIRE_[A-Z_]+", text))
    assert named
    assert named <= {f"POSEWIRE_{name.upper()}" for name in Settings.model_fields}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"| {version.rsplit('.', 1)[0]}.x | yes |" in text


def test_the_update_configuration_looks_at_every_file_with_pins() -> None:
    config = json.loads((ROOT / "renovate.json").read_text())
    patterns = [re.compile(pattern.strip("/")) for pattern in config["pip_requirements"]["managerFilePatterns"]]
    pinned = [*(ROOT / "requirements").glob("*.lock"), *(ROOT / "loadtests").glob("**/requirements*.txt")]
    assert len(pinned) > 3
    for path in pinned:
        assert any(pattern.search(path.relative_to(ROOT).as_posix()) for pattern in patterns), path


def test_every_action_of_a_workflow_is_a_commit_with_its_version_beside_it() -> None:
    lines = [line for path in (ROOT / ".github").rglob("*.yml") for line in path.read_text().splitlines()]
    uses = [line.split("uses:")[1].strip() for line in lines if "uses:" in line]
    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


def test_the_lock_of_the_gpu_has_one_onnx_runtime() -> None:
    names = re.findall(r"^(onnxruntime[\w-]*)==", (ROOT / "requirements/gpu.lock").read_text(), re.MULTILINE)
    assert names == ["onnxruntime-gpu"]


def test_the_lock_of_the_build_has_what_the_build_asks_for() -> None:
    lock = (ROOT / "requirements/build.lock").read_text()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in [*wanted, "ziglang"]:
        name = re.split(r"[><=]", requirement)[0]
        assert re.search(rf"^{re.escape(name)}==\S+ \\\n    --hash=sha256:[0-9a-f]{{64}}", lock, re.MULTILINE), name
