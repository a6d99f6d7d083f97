"""The node of the ROS 2 example in a real ROS 2 (kilted, from wheels), over DDS on the loopback.

The environment is made once for the module. vision_msgs has no wheel, so the node runs without boxes here.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from posewire.server.auth import new_key
from tests.sample_images import ASTRONAUT
from tests.server_process import serve

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/ros2/posewire_ros"
WHEELS = [f"ros-kilted-{name}" for name in ("rclpy==9.1.2", "sensor-msgs==5.5.1", "visualization-msgs==5.5.1", "rmw-fastrtps-cpp==9.3.3")]


@pytest.fixture(scope="module")
def ros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with ROS 2, which also finds what this one has."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        pytest.skip("uv is not installed: it makes the environment with ROS 2")
    folder = tmp_path_factory.mktemp("ros") / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin/python"
    done = subprocess.run([uv, "pip", "install", "-q", "--python", str(python), *WHEELS], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ROS 2 cannot be installed from wheels here: {done.stderr.strip()[-300:]}")
    [site] = folder.glob("lib/python3*/site-packages")
    places = [ROOT / "service", EXAMPLE, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (site / "posewire-test.pth").write_text("".join(f"{place}\n" for place in places))
    return python


@pytest.fixture
def environment() -> dict[str, str]:
    """Of the processes: their own domain, and nobody beyond this machine."""
    domain = str(1 + os.getpid() % 100)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROS_", "RMW_", "POSEWIRE_"))}
    return kept | {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@contextmanager
def node(ros: Path, environment: dict[str, str], **parameters: object) -> Iterator[subprocess.Popen[str]]:
    command = [str(ros), "-m", "posewire_ros.node", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["compressed", "raw"])
def test_images_of_a_topic_become_keypoints_and_skeletons_with_their_header(ros: Path, environment: dict[str, str], kind: str) -> None:
    options = {"image_topic": "/images", "compressed": kind == "compressed", "detections": False, "max_people": 1}
    with serve(workers="0") as server, node(ros, environment, url=server.url, **options) as process:
        peer = [str(ros), str(Path(__file__).with_name("peer.py")), str(ASTRONAUT), kind]
        done = subprocess.run(peer, check=False, capture_output=True, text=True, env=environment, timeout=200)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found.keys() >= {"height", "width", "points"}, found
        assert (found["height"], found["width"]) == (1, 17)
        assert found["points"] >= 10  # ends of limbs of a person who is seen down to the hips
        for second, nanosecond, frame in found["headers"].values():
            assert 1 <= second <= found["sent"]
            assert (nanosecond, frame) == (5, "camera_optical")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output


def test_without_vision_msgs_the_node_says_what_to_install(ros: Path, environment: dict[str, str]) -> None:
    with node(ros, environment) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "vision-msgs" in output
    assert "Traceback" not in output


def test_a_wrong_key_ends_the_node_with_the_reason(ros: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{new_key('robot')[1]}\n")
    wrong = environment | {"POSEWIRE_API_KEY": "wrong"}
    keys = str(tmp_path / "keys")
    with serve(workers="0", api_keys_file=keys) as server, node(ros, wrong, url=server.url, detections=False) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "key" in output
