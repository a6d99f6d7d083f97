"""Settings from environments as containers, systemd and Kubernetes make them."""

import os
import subprocess
import sys

import pytest

from posewire.config import Settings, load_settings
from posewire.errors import ConfigError
from tests.sample_images import ASTRONAUT

LINKS = {
    "POSEWIRE_PORT": "tcp://10.0.0.1:8000",
    "POSEWIRE_SERVICE_HOST": "10.0.0.1",
    "POSEWIRE_SERVICE_PORT": "8000",
    "POSEWIRE_SERVICE_PORT_HTTP": "8000",
    "POSEWIRE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "POSEWIRE_PORT_8000_TCP_PROTO": "tcp",
    "POSEWIRE_PORT_8000_TCP_PORT": "8000",
    "POSEWIRE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "POSEWIRE_OPS_PORT": "tcp://[fd00::1]:9000",  # of the service `posewire-ops`; also the name of a setting
    "POSEWIRE_OPS_SERVICE_HOST": "fd00::1",
    "POSEWIRE_API_PORT_9000_UDP_ADDR": "fd00::1",
}


def test_an_empty_variable_is_as_if_it_were_not_set() -> None:
    assert load_settings({f"POSEWIRE_{name.upper()}": "" for name in Settings.model_fields}) == load_settings({})


def test_the_variables_of_kubernetes_services_are_ignored() -> None:
    assert load_settings(LINKS) == load_settings({})
    assert load_settings(LINKS | {"POSEWIRE_PORT": "9000"}).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSEWIRE_SERVICE_HOTS", "10.0.0.1"),
        ("POSEWIRE_SERVICE_HOST", "localhost"),
        ("POSEWIRE_SERVICE_PORT", "many"),
        ("POSEWIRE_PORT_8000_TCP", "8000"),
        ("POSEWIRE_PORT_8000_TPC", "tcp://10.0.0.1:8000"),
        ("POSEWIRE_PORT", "http://10.0.0.1:8000"),
        ("POSEWIRE_POTR", "8000"),
        ("POSEWIRE_POTR", ""),
    ],
)
def test_what_is_like_such_a_variable_is_a_typing_error(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_settings({name: value})


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/h"}, "/h/.cache/posewire"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/posewire"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "here"}, "/h/.cache/posewire"),  # the XDG specification: a relative one is not valid
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/posewire"),
    ],
)
def test_the_cache_is_where_the_environment_says_now(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], folder: str) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(load_settings({}).cache_dir) == folder


def no_account() -> None:
    """Become a user without an entry in the list of users. The effective user stays, so that the files of the tests can be read."""
    os.setresuid(54_321, 0, 0)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs the right to become another user")
def test_a_user_without_home_and_account_gets_poses() -> None:
    command = [sys.executable, "-W", "error", "-m", "posewire", "predict", str(ASTRONAUT)]
    run = subprocess.run(command, check=False, env={"PATH": ""}, capture_output=True, text=True, timeout=120, preexec_fn=no_account)
    assert run.returncode == 0, run.stderr
    assert "512x512" in run.stdout
