"""COCO AP through POST /v1/pose: what the manifest states is what the service does."""

import json
import subprocess
import sys

import pytest

from posewire.registry.store import ModelStore
from tests.sample_images import COCO_MINI_VAL
from tests.server_process import serve

pytestmark = pytest.mark.skipif(not COCO_MINI_VAL.is_dir(), reason="the annotated images are not beside this checkout")


def test_stated_keypoint_ap_over_http() -> None:
    stated = next(a.value for a in ModelStore().manifest.default("pose").accuracy if a.metric.startswith("keypoint AP,"))
    with serve() as server:
        command = [sys.executable, "-m", "posewire", "evaluate", "--json", "--boxes", "gt", "--url", server.url]
        data = ["--images", str(COCO_MINI_VAL / "images"), "--annotations", str(COCO_MINI_VAL / "person_keypoints.json")]
        run = subprocess.run([*command, *data], capture_output=True, text=True, check=True)
    measured = json.loads(run.stdout)["keypoints"]["AP"]
    assert measured == pytest.approx(stated, abs=0.005)
