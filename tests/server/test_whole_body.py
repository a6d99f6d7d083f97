"""A model of 133 keypoints and one of a hand, from the manifest over HTTP to drawings and formats: nothing needs 17."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from posewire import PosePipeline
from posewire.config import load_settings
from posewire.engine.engine import load_engine
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.server.app import create_app
from posewire.telemetry.metrics import Metrics
from tests.pipeline.made_networks import constant_network, entry, simcc_answers, write_store
from tests.sample_images import astronaut, encode

HEIGHT, WIDTH = 256, 192
WHOLE_BODY, HAND = KEYPOINT_SETS["coco-wholebody-133"], KEYPOINT_SETS["hand-21"]
SIDE = 800  # pixels of the image
# Padded by a quarter, this box is three times as large as a crop, whose top left is then at (112, 16).
BOX = [400 - 230.4, 400 - 307.2, 460.8, 614.4]

# In fractions of the crop: a person who stands with the hands beside the shoulders.
BODY = {
    **{"nose": (0.5, 0.16), "left_eye": (0.53, 0.14), "right_eye": (0.47, 0.14), "left_ear": (0.57, 0.15), "right_ear": (0.43, 0.15)},
    **{"left_shoulder": (0.62, 0.3), "right_shoulder": (0.38, 0.3), "left_elbow": (0.72, 0.42), "right_elbow": (0.28, 0.42)},
    **{"left_wrist": (0.8, 0.32), "right_wrist": (0.2, 0.32), "left_hip": (0.57, 0.56), "right_hip": (0.43, 0.56)},
    **{"left_knee": (0.58, 0.74), "right_knee": (0.42, 0.74), "left_ankle": (0.58, 0.9), "right_ankle": (0.42, 0.9)},
    **{"left_big_toe": (0.62, 0.95), "left_small_toe": (0.66, 0.94), "left_heel": (0.56, 0.93)},
    **{"right_big_toe": (0.38, 0.95), "right_small_toe": (0.34, 0.94), "right_heel": (0.44, 0.93)},
}


def hand(prefix: str, root: str, at: tuple[float, float], turn: float) -> Iterator[tuple[str, tuple[float, float]]]:
    """Five fingers that spread upwards."""
    yield f"{prefix}{root}", at
    for i, finger in enumerate(("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")):
        angle = turn * (0.9 - 0.4 * i)
        for joint in range(1, 5):
            yield f"{prefix}{finger}{joint}", (at[0] - 0.035 * joint * np.sin(angle), at[1] - 0.026 * joint * np.cos(angle))


def face() -> Iterator[tuple[str, tuple[float, float]]]:
    """Rings for jaw, brows, nose, eyes and mouth."""
    rings = [
        *((range(17), (0.5, 0.15), 0.08, (np.pi, 0.0)), (range(17, 22), (0.46, 0.135), 0.025, (np.pi, 2 * np.pi))),
        *((range(22, 27), (0.54, 0.135), 0.025, (np.pi, 2 * np.pi)), (range(27, 36), (0.5, 0.155), 0.015, (-np.pi / 2, np.pi))),
        *((range(36, 42), (0.465, 0.14), 0.015, (np.pi, 2.8 * np.pi)), (range(42, 48), (0.535, 0.14), 0.015, (np.pi, 2.8 * np.pi))),
        *((range(48, 60), (0.5, 0.185), 0.03, (np.pi, 2.9 * np.pi)), (range(60, 68), (0.5, 0.185), 0.018, (np.pi, 2.9 * np.pi))),
    ]
    for indices, (x, y), radius, (begin, end) in rings:
        for index, angle in zip(indices, np.linspace(begin, end, len(indices)), strict=True):
            yield f"face-{index}", (x + radius * np.cos(angle), y + 0.8 * radius * np.sin(angle))


def whole_body() -> NDArray[Any]:
    """(133, 2) in crop pixels, at halves of pixels."""
    hands = [*hand("left_", "hand_root", (0.8, 0.3), -1), *hand("right_", "hand_root", (0.2, 0.3), 1)]
    places = BODY | dict(face()) | dict(hands)
    return np.round(np.array([places[name] for name in WHOLE_BODY.names]) * [WIDTH, HEIGHT] * 2) / 2


XY = whole_body()
SCORES = np.linspace(0.5, 0.9, 133)


def store(root: Path) -> Path:
    body = constant_network(HEIGHT, WIDTH, simcc_answers(XY, SCORES, HEIGHT, WIDTH))
    places = np.array([at for _, at in hand("", "wrist", (0.5, 0.75), 4)]) * [WIDTH, HEIGHT]
    one_hand = constant_network(HEIGHT, WIDTH, simcc_answers(np.round(places), np.full(21, 0.8), HEIGHT, WIDTH))
    return write_store(
        root,
        entry(root, "body", body, HEIGHT, WIDTH, task="pose", keypoints="coco-wholebody-133", output={"layout": "simcc"}),
        entry(root, "hand", one_hand, HEIGHT, WIDTH, task="pose", keypoints="hand-21", output={"layout": "simcc"}),
    )


@asynccontextmanager
async def serving(root: Path, pose: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = load_settings({}, device="cpu", model_store=store(root), pose=pose, workers=0, max_batch=1)
    app = create_app(settings, load_engine(settings, Metrics()))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client,
    ):
        yield client


IMAGE = encode(np.full((SIDE, SIDE, 3), 60, np.uint8), ".png")
QUERY = {"boxes": json.dumps([BOX])}
HEADERS = {"Content-Type": "image/png"}


async def test_a_whole_body_goes_through_http(tmp_path: Path) -> None:
    async with serving(tmp_path, "body") as client:
        answer = (await client.post("/v1/pose", params=QUERY, content=IMAGE, headers=HEADERS)).json()
        [person] = answer["images"][0]["people"]
        assert [keypoint["name"] for keypoint in person["keypoints"]] == list(WHOLE_BODY.names)
        found = np.array([[keypoint["x"], keypoint["y"]] for keypoint in person["keypoints"]])
        assert found == pytest.approx(XY * 3 + [112, 16], abs=0.01)

        models = (await client.get("/v1/models")).json()["models"]
        [pose] = [model for model in models if model["task"] == "pose"]
        assert (pose["keypoint_set"], len(pose["keypoints"]), len(pose["skeleton"])) == (
            "coco-wholebody-133",
            133,
            len(WHOLE_BODY.skeleton),
        )

        [row] = (await client.post("/v1/pose", params=QUERY | {"format": "coco"}, content=IMAGE, headers=HEADERS)).json()
        assert len(row["keypoints"]) == 3 * 133
        table = (await client.post("/v1/pose", params=QUERY | {"format": "csv"}, content=IMAGE, headers=HEADERS)).text
        assert [line["keypoint"] for line in csv.DictReader(io.StringIO(table))] == list(WHOLE_BODY.names)
        labels = (await client.post("/v1/pose", params=QUERY | {"format": "yolo"}, content=IMAGE, headers=HEADERS)).text
        assert len(labels.split()) == 5 + 3 * 133


async def test_openpose_has_the_hands_and_the_face_of_a_whole_body(tmp_path: Path) -> None:
    async with serving(tmp_path, "body") as client:
        answer = (await client.post("/v1/pose", params=QUERY | {"format": "openpose"}, content=IMAGE, headers=HEADERS)).json()
    [person] = answer["people"]
    assert [len(person[f"{part}_keypoints_2d"]) for part in ("pose", "hand_left", "hand_right", "face")] == [54, 63, 63, 210]
    at = WHOLE_BODY.names.index
    for part, name, index in (("hand_left", "left_thumb1", 1), ("hand_right", "right_pinky_finger4", 20), ("face", "face-67", 67)):
        assert person[f"{part}_keypoints_2d"][3 * index : 3 * index + 2] == pytest.approx(XY[at(name)] * 3 + [112, 16], abs=0.01)
    assert person["face_keypoints_2d"][-6:] == [0] * 6  # pupils


async def test_a_drawing_shows_fingers_in_their_colours_and_small(tmp_path: Path) -> None:
    async with serving(tmp_path, "body") as client:
        drawn = (await client.post("/v1/pose", params=QUERY, content=IMAGE, headers=HEADERS | {"Accept": "image/png"})).content
    pixels = np.asarray(cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
    for name, colour in (("left_forefinger4", "#ff66cc"), ("right_pinky_finger4", "#50d250"), ("left_hip", "#ff9114")):
        x, y = (XY[WHOLE_BODY.names.index(name)] * 3 + [112, 16]).astype(int)
        around = pixels[y - 8 : y + 9, x - 8 : x + 9].reshape(-1, 3).astype(int)
        distance = np.abs(around - list(bytes.fromhex(colour[1:]))).sum(1)
        assert distance.min() < 30, name
    tip = (XY[WHOLE_BODY.names.index("right_pinky_finger4")] * 3 + [112, 16]).astype(int)
    hip = (XY[WHOLE_BODY.names.index("right_hip")] * 3 + [112, 16]).astype(int)
    assert touched(pixels, tip) < touched(pixels, hip) / 2


def touched(pixels: NDArray[Any], at: NDArray[Any]) -> int:
    """How many pixels below a keypoint are drawn on, left of the middle of a small window."""
    x, y = at.tolist()
    return int((pixels[y - 20 : y + 21, x - 20 : x + 21] != 60).any(-1).sum())


async def test_a_hand_is_served_with_the_caller_s_box(tmp_path: Path) -> None:
    async with serving(tmp_path, "hand") as client:
        answer = (await client.post("/v1/pose", params=QUERY, content=IMAGE, headers=HEADERS)).json()
        [person] = answer["images"][0]["people"]
        assert [keypoint["name"] for keypoint in person["keypoints"]] == list(HAND.names)
        refused = await client.post("/v1/pose", params=QUERY | {"format": "openpose"}, content=IMAGE, headers=HEADERS)
        assert refused.status_code == 422
        assert "openpose has none of the keypoints of hand; choose openpose-model" in refused.json()["detail"]
        metadata = (await client.get("/v2/models/posewire")).json()
        shapes = {output["name"]: output["shape"] for output in metadata["outputs"]}
        assert 21 in shapes["keypoints"]


def test_a_whole_body_is_tracked_and_smoothed(tmp_path: Path) -> None:
    tracker = PosePipeline.load(device="cpu", model_store=store(tmp_path), pose="body").tracker(fps=30, detect_every=1)
    results = [tracker(np.roll(astronaut(), 2 * i, axis=1)) for i in range(4)]
    assert [[person.track_id for person in result.people[:1]] for result in results] == [[1]] * 4
    assert all(result.people[0].keypoints.xy.shape == (133, 2) for result in results)
