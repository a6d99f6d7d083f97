import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from posewire.cameras.store import CameraStore, InUse
from posewire.errors import ConfigError
from posewire.schemas.cameras import CameraSpec


def spec(name: str = "door", **fields: object) -> CameraSpec:
    return CameraSpec.model_validate({"name": name, "source": "rtsp://user:pass%40@cam1/x", **fields})


SINKS = [{"kind": "webhook", "url": "http://hook/in", "secret": "s3cret"}, {"kind": "mqtt", "url": "mqtt://u:hidden@broker"}]


def test_cameras_are_there_after_a_restart_with_their_secrets(tmp_path: Path) -> None:
    camera = spec(sinks=SINKS, rules=[{"kind": "raised_hand", "name": "hand"}], fps=5)
    store = CameraStore(tmp_path / "state")
    store.put(spec("a"))
    store.put(spec("b"))
    store.put(camera)
    store.remove("a")
    store.close()
    store = CameraStore(tmp_path / "state")
    found = store.load()
    store.close()
    assert found == [spec("b"), camera]
    secret = found[1].sinks[0]
    assert secret.kind == "webhook"
    assert secret.secret is not None
    assert secret.secret.get_secret_value() == "s3cret"


def test_the_file_of_cameras_holds_no_secret_and_the_other_is_private(tmp_path: Path) -> None:
    store = CameraStore(tmp_path)
    store.put(spec(sinks=SINKS))
    store.close()
    open_file = (tmp_path / "cameras.sqlite").read_bytes()
    assert b"rtsp://cam1/x" in open_file
    for secret in (b"pass", b"s3cret", b"hidden"):
        assert secret not in open_file
    assert stat.S_IMODE((tmp_path / "camera-secrets.sqlite").stat().st_mode) == 0o600


def test_one_process_at_a_time_has_the_cameras(tmp_path: Path) -> None:
    store = CameraStore(tmp_path)
    program = "import sys; from pathlib import Path; from posewire.cameras.store import CameraStore; CameraStore(Path(sys.argv[1]))"
    second = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert "another process watches" in second.stderr
    with pytest.raises(InUse):
        CameraStore(tmp_path)
    store.close()
    CameraStore(tmp_path).close()


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from posewire.cameras.store import CameraStore\n"
        "from posewire.schemas.cameras import CameraSpec\n"
        "CameraStore(Path(sys.argv[1])).put(CameraSpec(name='door', source='/a.mp4'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    store = CameraStore(tmp_path)
    assert [camera.name for camera in store.load()] == ["door"]
    store.close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cameras.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="POSEWIRE_STATE_DIR"):
        CameraStore(tmp_path)


def test_a_camera_of_another_version_is_named(tmp_path: Path) -> None:
    store = CameraStore(tmp_path)
    store.put(spec())
    store.close()
    with sqlite3.connect(tmp_path / "cameras.sqlite") as database:
        database.execute("UPDATE cameras SET spec = ?", [json.dumps({"name": "door", "source": "rtsp://cam1/x", "hologram": True})])
    database.close()
    store = CameraStore(tmp_path)
    with pytest.raises(ConfigError, match="'door' is not one of this version"):
        store.load()
    store.close()
