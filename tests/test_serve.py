"""What `posewire serve` does about who may reach it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from posewire.server.auth import parse_keys
from tests.registry.downloads import silent_store
from tests.sample_images import ASTRONAUT
from tests.server_process import Server, listening_server, serve


def posewire(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "posewire", *arguments], check=False, capture_output=True, text=True, timeout=60)


def warnings(server: Server) -> list[str]:
    return [str(entry["message"]) for entry in server.log if entry["level"] == "warning"]


def test_a_key_that_was_made_opens_the_service(tmp_path: Path) -> None:
    made = posewire("keys", "new", "camera-1")
    assert made.returncode == 0
    key = made.stderr.split()[-1]
    assert key not in made.stdout
    path = tmp_path / "keys"
    path.write_text(made.stdout)
    assert [known.name for known in parse_keys(made.stdout)] == ["camera-1"]
    with serve(api_keys_file=str(path), host="0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        headers = {"Content-Type": "image/jpeg"}
        assert httpx.post(f"{url}/v1/pose", content=ASTRONAUT.read_bytes(), headers=headers).status_code == 401
        headers["Authorization"] = f"Bearer {key}"
        assert httpx.post(f"{url}/v1/pose", content=ASTRONAUT.read_bytes(), headers=headers).status_code == 200
        assert warnings(server) == []
        assert httpx.get(f"{url}/livez", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200
        assert httpx.get(f"{url}/nowhere", headers=headers | {"X-Forwarded-For": "203.0.113.9"}).status_code == 404
    assert key not in str(server.log)
    assert "203.0.113.9" not in str(server.log)


def test_a_name_that_the_file_could_not_hold_is_refused() -> None:
    made = posewire("keys", "new", "camera 1")
    assert (made.returncode, made.stdout) == (1, "")
    assert "Traceback" not in made.stderr


def test_an_open_service_says_so_loudly() -> None:
    with serve(host="0.0.0.0") as server:
        assert any("ANYONE" in text for text in warnings(server))


@pytest.mark.parametrize(("trusted", "client"), [({}, "address 127.0.0.1"), ({"trusted_proxies": "127.0.0.0/8"}, "address 203.0.113.9")])
def test_a_forwarded_address_is_believed_of_named_proxies_only(trusted: dict[str, str], client: str) -> None:
    with serve(**trusted) as server:
        httpx.get(f"{server.url}/v1/models", headers={"X-Forwarded-For": "203.0.113.9"})
        server.process.terminate()
        server.process.wait(30)
    assert [entry["client"] for entry in server.log if entry["message"] == "request"] == [client]


def test_an_ops_port_that_is_taken_is_said_and_ends_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = os.environ | {"POSEWIRE_OPS_PORT": str(taken.getsockname()[1])}
        command = [sys.executable, "-m", "posewire", "serve", "--port", "0"]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "address already in use" in done.stderr


def test_a_signal_while_the_models_are_loaded_ends_it_at_once(tmp_path: Path) -> None:
    store, _ = silent_store(tmp_path / "store")
    environment = {"POSEWIRE_MODEL_STORE": str(store), "POSEWIRE_DRAIN_S": "600"}
    with listening_server(os.environ | environment, loaded=False) as server:
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert "being loaded" in httpx.get(f"{server.url}/readyz").json()["detail"]
        assert httpx.get(server.url).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0  # though the thread that opens the model waits for ever
    assert "the models are ready" not in [entry["message"] for entry in server.log]


def test_a_model_that_turns_out_to_be_wrong_ends_it_with_one_line(tmp_path: Path) -> None:
    store, weights = silent_store(tmp_path / "store")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")} | {"POSEWIRE_MODEL_STORE": str(store)}
    command = [sys.executable, "-m", "posewire", "serve", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        weights.write_bytes(b"no model")  # waits until the service opens it
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "running on" in out
    assert err.count("\n") == 1
    assert str(weights) in err
