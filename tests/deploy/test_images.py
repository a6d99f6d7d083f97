import pytest
import yaml

from tests.deploy.tools import ROOT, needs, run

COMPOSE = ROOT / "docker/compose.yaml"
OVERRIDE = ROOT / "docker/compose.gpu.yaml"


@needs("hadolint")
@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_the_linter_has_nothing_to_say(name: str) -> None:
    assert run("hadolint", ROOT / "docker" / name) == ""


@needs("docker-compose")
def test_compose_takes_its_files() -> None:
    if run("docker-compose", "version", "--short").startswith("1."):
        pytest.skip("docker-compose 1 knows the format of 2019, without the project's name")
    config = yaml.safe_load(run("docker-compose", "-f", COMPOSE, "-f", OVERRIDE, "config"))
    assert set(config["services"]) == {"posewire", "prometheus", "grafana"}
    assert config["services"]["posewire"]["build"]["dockerfile"] == "docker/Dockerfile.gpu"


def test_compose_mounts_what_exists_and_opens_no_port_to_others() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), source
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_both_images_are_made_alike() -> None:
    texts = [(ROOT / "docker" / name).read_text() for name in ("Dockerfile.cpu", "Dockerfile.gpu")]
    for text in texts:
        assert "USER 10001:10001" in text
        assert "HEALTHCHECK" in text
        assert text.count("\nFROM ") >= 2
