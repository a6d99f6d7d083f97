"""The query's parameters, boxes and the deadline's header."""

import json

import pytest

from posewire.engine.engine import Engine
from tests.server.support import JPEG, JSON, MULTIPART, Api, Gate, GatedDetector, StartApi, assert_problem, images, json_body, people_of

BOXES = [[300.5, 20, 150, 300], [70, 5, 300, 500], [-50, -50, 100, 100]]


async def test_min_detection_score_is_a_threshold(api: Api, astronaut: bytes) -> None:
    counts = [len(people_of(await api.post(astronaut, min_detection_score=s))) for s in (0, 0.5, 1)]
    assert counts[0] > counts[1] == 1
    assert counts[2] == 0


async def test_max_people_keeps_the_best(api: Api, astronaut: bytes) -> None:
    everyone = people_of(await api.post(astronaut, min_detection_score=0))
    scores = [p["score"] for p in everyone]
    assert scores == sorted(scores, reverse=True)
    assert len(people_of(await api.post(astronaut, min_detection_score=0, max_people=2))) == 2
    assert len(people_of(await api.post(astronaut, min_detection_score=0, max_people=1))) == 1
    [best] = people_of(await api.post(astronaut))
    assert people_of(await api.post(astronaut, max_people=1)) == [best]


async def test_the_settings_cap_and_default_the_parameters(start_api: StartApi, astronaut: bytes) -> None:
    api = await start_api(max_people=3, min_detection_score=0.0)
    assert len(people_of(await api.post(astronaut))) == 3
    assert len(people_of(await api.post(astronaut, max_people=1000))) == 3
    assert len(people_of(await api.post(astronaut, min_detection_score=0.5))) == 1


async def test_min_keypoint_score_leaves_keypoints_out(api: Api, astronaut: bytes) -> None:
    [whole] = people_of(await api.post(astronaut))
    kept = [k for k in whole["keypoints"] if k["score"] >= 0.3]
    assert 0 < len(kept) < 17
    [person] = people_of(await api.post(astronaut, min_keypoint_score=0.3))
    assert person == whole | {"keypoints": kept}
    [row] = (await api.post(astronaut, min_keypoint_score=0.3, format="coco")).json()
    for i, keypoint in enumerate(whole["keypoints"]):
        x_y_score = [keypoint["x"], keypoint["y"], keypoint["score"]]
        assert row["keypoints"][3 * i : 3 * i + 3] == (x_y_score if keypoint in kept else [0, 0, 0])


async def test_boxes_are_answered_in_their_order_without_the_detector(start_api: StartApi, models: Engine, astronaut: bytes) -> None:
    gate = Gate()
    api = await start_api(detector=GatedDetector(models.detector, gate))
    gate.error = RuntimeError("the detector must not run")
    people = people_of(await api.post(astronaut, boxes=json.dumps(BOXES)))
    assert [p["box"] for p in people] == BOXES
    assert people[1]["score"] > people[2]["score"]  # so the order is not that of the scores
    assert people_of(await api.post(json_body(astronaut, boxes=BOXES), JSON)) == people
    assert await api.runs("detector") == 0


async def test_an_empty_list_of_boxes_is_nobody(api: Api, astronaut: bytes) -> None:
    assert people_of(await api.post(astronaut, boxes="[]")) == []
    assert people_of(await api.post(json_body(astronaut, boxes=[]), JSON)) == []
    assert (await api.runs("detector"), await api.runs("pose")) == (0, 0)


async def test_null_boxes_of_a_json_body_let_the_detector_find_people(api: Api, astronaut: bytes) -> None:
    body = json.loads(json_body(astronaut))
    body["images"][0]["boxes"] = None
    assert len(people_of(await api.post(json.dumps(body).encode(), JSON))) == 1
    assert await api.runs("detector") == 1


BAD_BOXES = [
    ("", "boxes: "),
    ("not JSON", "boxes: "),
    ("{}", "boxes: "),
    ("[1, 2, 3, 4]", "[0]"),
    ("[[1, 2, 3]]", "[0][3]"),
    ("[[1, 2, 3, 4], [1, 2, 3, 4, 5]]", "[1]"),
    ('[[1, 2, 3, "x"]]', "[0][3]"),
    ("[[1, null, 3, 4]]", "[0][1]"),
    ("[[NaN, 2, 3, 4]]", "[0][0]"),
    ("[[1, 2, Infinity, 4]]", "[0][2]"),
    ("[[1, -Infinity, 3, 4]]", "[0][1]"),
    ("[[0, 0, 1e39, 1e39]]", "[0][2]"),  # more than float32 holds
    ("[[-3e38, 0, 3.4e38, 10]]", "[0][0]"),  # float32 holds it, but not the way back from the crop
    ("[[1, 2, 3, 4], [10, 10, 0, 5]]", "boxes[1] has no area"),
    ("[[10, 10, 5, -5]]", "boxes[0] has no area"),
    ("[[10, 10, 1e-60, 5]]", "boxes[0] has no area"),
    ("[[512, 0, 10, 10]]", "boxes[0] lies outside"),
    ("[[-10, 0, 10, 10]]", "boxes[0] lies outside"),
    ("[[0, -20, 10, 10]]", "boxes[0] lies outside"),
    ("[[0, 600, 10, 10]]", "512 x 512"),
]


@pytest.mark.parametrize(("boxes", "says"), BAD_BOXES)
async def test_bad_boxes_of_a_query(api: Api, astronaut: bytes, boxes: str, says: str) -> None:
    assert_problem(await api.post(astronaut, boxes=boxes), 422, "bad-parameter", says)
    assert await api.runs("pose") == 0


@pytest.mark.parametrize(("boxes", "says"), [b for b in BAD_BOXES if b[0].startswith("[[")])
async def test_bad_boxes_of_a_json_body(api: Api, astronaut: bytes, boxes: str, says: str) -> None:
    body = json_body(astronaut)[:-3] + b', "boxes": ' + boxes.encode() + b"}]}"
    assert_problem(await api.post(body, JSON), 422, "bad-parameter", says)


async def test_the_largest_boxes_give_finite_numbers(api: Api, astronaut: bytes) -> None:
    boxes = "[[-9e5, -9e5, 1e6, 1e6], [0, 0, 1e6, 1], [511, 511, 1e-30, 1e-30]]"
    people = people_of(await api.post(astronaut, boxes=boxes))
    assert len(people) == 3
    assert all(abs(k[axis]) < 1e7 for person in people for k in person["keypoints"] for axis in "xy")


async def test_more_boxes_than_people_are_wanted(api: Api, astronaut: bytes) -> None:
    assert_problem(await api.post(astronaut, boxes=json.dumps(BOXES), max_people=2), 422, "bad-parameter", "max_people, which is 2")
    assert len(people_of(await api.post(astronaut, boxes=json.dumps(BOXES), max_people=3))) == 3
    many = json.dumps([[1, 1, 9, 9]] * 51)
    assert_problem(await api.post(astronaut, boxes=many, max_people=60), 422, "bad-parameter", "max_people, which is 50")


async def test_boxes_of_a_query_are_for_one_image(api: Api, astronaut: bytes) -> None:
    boxes = json.dumps(BOXES)
    assert_problem(await api.post(json_body(astronaut), JSON, boxes=boxes), 422, "bad-parameter", "in the body")
    assert_problem(await api.post(images(astronaut, astronaut), MULTIPART, boxes=boxes), 422, "bad-parameter", "one image")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_detection_score", "1.01"),
        ("min_detection_score", "-0.1"),
        ("min_detection_score", "nan"),
        ("min_detection_score", "high"),
        ("min_keypoint_score", "2"),
        ("min_keypoint_score", ""),
        ("max_people", "0"),
        ("max_people", "-1"),
        ("max_people", "1.5"),
        ("max_people", "all"),
        ("format", "xml"),
        ("min_score", "0.5"),
        ("Max_People", "1"),
    ],
)
async def test_a_bad_or_unknown_parameter_is_named(api: Api, astronaut: bytes, name: str, value: str) -> None:
    before = await api.metric("posewire_rejections_total", reason="bad-parameter")
    assert_problem(
        await api.client.post("/v1/pose", content=astronaut, headers=JPEG, params={name: value}), 422, "bad-parameter", f"{name}: "
    )
    assert await api.metric("posewire_rejections_total", reason="bad-parameter") == before + 1
    assert await api.runs("detector") == 0


async def test_an_unknown_parameter_cannot_break_the_line(api: Api, astronaut: bytes) -> None:
    assert_problem(
        await api.client.post("/v1/pose", content=astronaut, headers=JPEG, params={"a\r\nb\u2028\x1b": "1"}), 422, "bad-parameter"
    )


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "1e3", "", "soon", "+5", " 5 5", "99999999999"])
async def test_a_bad_deadline_is_named(api: Api, astronaut: bytes, value: str) -> None:
    answer = await api.client.post("/v1/pose", content=astronaut, headers=JPEG | {"X-Request-Timeout-Ms": value})
    assert_problem(answer, 422, "bad-parameter", "X-Request-Timeout-Ms")


async def test_a_long_deadline_is_taken_as_the_longest(api: Api, astronaut: bytes) -> None:
    assert len(people_of(await api.post(astronaut, {"X-Request-Timeout-Ms": "999999999"}))) == 1
