"""The Open Inference Protocol over HTTP."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewire.engine.engine import Engine
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.server.auth import new_key
from tests.server.open_inference import INFER, LENGTH, arrays, assert_error, bytes_tensor, in_binary, in_json, infer, tensor
from tests.server.support import Api, Gate, GatedDetector, StartApi, eventually, hold, people_of

OUTPUTS = ["people_count", "image_size", "image_index", "boxes", "scores", "keypoints", "people"]
BOX = [70.0, 5.0, 300.0, 500.0]


async def test_the_server_and_its_model_are_described(api: Api) -> None:
    server = (await api.client.get("/v2")).json()
    assert (server["name"], server["extensions"]) == ("posewire", ["binary_tensor_data"])
    assert server["version"]
    for path in ("/v2/models/posewire", "/v2/models/posewire/versions/1"):
        model = (await api.client.get(path)).json()
        assert (model["name"], model["versions"]) == ("posewire", ["1"])
        assert {t["name"]: (t["datatype"], t["shape"]) for t in model["inputs"]} == {
            "images": ("BYTES", [-1]),
            "boxes": ("FP32", [-1, 4]),
            "boxes_count": ("INT32", [-1]),
        }
        assert [t["name"] for t in model["outputs"]] == OUTPUTS
        assert {"name": "keypoints", "datatype": "FP32", "shape": [-1, 17, 3]} in model["outputs"]


async def test_health_and_readiness_follow_the_service(api: Api) -> None:
    for path, field in (("/v2/health/live", "live"), ("/v2/health/ready", "ready"), ("/v2/models/posewire/ready", "ready")):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()[field]) == (200, True)
    api.services.drain.set()
    assert (await api.client.get("/v2/health/live")).status_code == 200
    for path in ("/v2/health/ready", "/v2/models/posewire/ready", "/v2/models/posewire/versions/1/ready"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)


async def test_what_is_not_served_is_an_error_of_the_protocol(api: Api) -> None:
    for path in ("/v2/models/other", "/v2/models/posewire/versions/2", "/v2/models/other/ready"):
        assert_error(await api.client.get(path), 404, "posewire")
    assert_error(await api.client.get("/v2/nowhere"), 404, "Not Found")
    assert_error(await api.client.get(INFER), 405, "Method Not Allowed")
    answer = await api.client.post("/v2/models/posewire/versions/9/infer", json={"inputs": []})
    assert_error(answer, 404, "version '9'")


async def test_the_tensors_are_the_people_of_post_v1_pose(api: Api, astronaut: bytes, landscape: bytes) -> None:
    [person] = people_of(await api.post(astronaut))
    answer = await infer(api, {"id": "42", "inputs": [in_json(landscape, astronaut)]})
    described = answer.json()
    assert (described["id"], described["model_name"], described["model_version"]) == ("42", "posewire", "1")
    assert described["parameters"] == {"detector": api.engine.detector.spec.name, "pose": api.engine.pose.spec.name}
    assert [output["name"] for output in described["outputs"]] == OUTPUTS
    found = arrays(answer)
    assert np.asarray(found["people_count"]).tolist() == [0, 1]
    assert np.asarray(found["image_index"]).tolist() == [1]
    assert np.asarray(found["image_size"]).tolist() == [[640, 480], [512, 512]]
    keypoints = [[[k["x"], k["y"], k["score"]] for k in person["keypoints"]]]
    assert {o["name"]: o["data"] for o in described["outputs"] if o["datatype"] == "FP32"} == {
        "boxes": person["box"],
        "scores": [person["score"]],
        "keypoints": [number for row in keypoints[0] for number in row],
    }
    nobody, somebody = (json.loads(text) for text in found["people"])
    assert (nobody["people"], somebody["people"]) == ([], [person])
    assert [k["name"] for k in somebody["people"][0]["keypoints"]] == list(KEYPOINT_SETS["coco-17"].names)


async def test_json_and_the_binary_form_hold_the_same_in_both_directions(api: Api, astronaut: bytes, landscape: bytes) -> None:
    in_text = arrays(await infer(api, {"inputs": [in_json(astronaut, landscape)]}))
    binary = bytes_tensor(astronaut, landscape)
    request: dict[str, Any] = {"inputs": [in_binary(astronaut, landscape)]}
    mixed = await infer(api, request | {"outputs": [{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "scores"}]}, binary)
    assert mixed.headers["Content-Type"] == "application/octet-stream"
    assert list(arrays(mixed)) == ["boxes", "scores"]
    everything = await infer(api, request | {"parameters": {"binary_data_output": True}}, binary)
    for answer in (mixed, everything):
        for name, value in arrays(answer).items():
            if name != "people":  # their times differ
                np.testing.assert_array_equal(value, in_text[name])
    assert [json.loads(text)["people"] for text in arrays(everything)["people"]] == [
        json.loads(text)["people"] for text in in_text["people"]
    ]


async def test_only_the_outputs_asked_for_are_answered_in_their_order(api: Api, landscape: bytes) -> None:
    outputs = [{"name": "scores"}, {"name": "keypoints", "parameters": {"binary_data": True}}, {"name": "people_count"}]
    request = {"inputs": [in_json(landscape)], "outputs": outputs, "parameters": {"binary_data_output": False}}
    found = arrays(await infer(api, request))
    assert list(found) == ["scores", "keypoints", "people_count"]
    assert [np.asarray(value).shape for value in found.values()] == [(0,), (0, 17, 3), (1,)]


async def test_shapes_of_rows_and_nested_data_are_read(api: Api, landscape: bytes) -> None:
    images = in_json(landscape, landscape)
    rows = images | {"shape": [2, 1], "data": [[text] for text in images["data"]]}
    assert np.asarray(arrays(await infer(api, {"inputs": [rows]}))["people_count"]).tolist() == [0, 0]


async def test_parameters_are_those_of_post_v1_pose_as_numbers_or_texts(api: Api, astronaut: bytes) -> None:
    [person] = people_of(await api.post(astronaut, min_keypoint_score=0.5, min_detection_score=0.5))
    for given in (0.5, "0.5"):
        parameters = {"min_keypoint_score": given, "min_detection_score": given, "max_people": 3}
        found = arrays(await infer(api, {"inputs": [in_json(astronaut)], "parameters": parameters}))
        [keypoints] = np.asarray(found["keypoints"])
        kept = [[k["x"], k["y"], k["score"]] for k in person["keypoints"]]
        np.testing.assert_array_equal(keypoints[keypoints[:, 2] > 0], np.array(kept, np.float32))
        assert len(kept) < 17  # so the others are 0 0 0
        assert not keypoints[keypoints[:, 2] == 0].any()
        assert np.asarray(found["people_count"]).tolist() == [1]


async def test_boxes_skip_the_detector(api: Api, astronaut: bytes, landscape: bytes) -> None:
    [expected] = people_of(await api.post(astronaut, boxes=[BOX]))
    runs = await api.runs("detector")
    alone = arrays(await infer(api, {"inputs": [in_json(astronaut), tensor("boxes", "FP32", [1, 4], [BOX])]}))
    raw = struct.pack("<4f", *BOX)
    inputs = [in_json(landscape, astronaut), tensor("boxes", "FP32", [1, 4], raw), tensor("boxes_count", "INT32", [2], [0, 1])]
    both = arrays(await infer(api, {"inputs": inputs}, raw))
    for found in (alone, both):
        np.testing.assert_array_equal(np.asarray(found["boxes"]), np.array([expected["box"]], np.float32))
        np.testing.assert_allclose(np.asarray(found["scores"]), [expected["score"]], atol=1e-6)
    assert np.asarray(both["people_count"]).tolist() == [0, 1]
    assert await api.runs("detector") == runs


async def test_a_compressed_body_is_read(api: Api, landscape: bytes) -> None:
    head = json.dumps({"inputs": [in_binary(landscape)]}).encode()
    headers = {LENGTH: str(len(head)), "Content-Encoding": "gzip"}
    answer = await api.client.post(INFER, content=gzip.compress(head + bytes_tensor(landscape)), headers=headers)
    assert np.asarray(arrays(answer)["people_count"]).tolist() == [0]


async def test_one_bad_image_is_named(api: Api, landscape: bytes) -> None:
    answer = await infer(api, {"inputs": [in_binary(landscape, b"not an image")]}, bytes_tensor(landscape, b"not an image"))
    assert_error(answer, 400, "image 1: ")


def images(**changes: object) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]} | changes]}


PREFIXED = bytes_tensor(b"AAAA")


BAD_REQUESTS: list[tuple[Any, ...]] = [
    (images(shape=[-1]), 422, "shape"),
    (images(shape=[]), 422, "shape"),
    (images(shape=[1, 2]), 422, "shape"),
    (images(shape=[1] * 1000), 422, "shape"),
    (images(shape=[1.5]), 422, "integer"),
    (images(shape=[True]), 422, "integer"),
    (images(shape=[0]), 422, "no image"),
    (images(shape=[2]), 422, "1 elements"),
    (images(shape=[10**9]), 413, "1000000000 images"),
    (images(shape=[2**64]), 413, "images"),
    (images(shape=[10**400]), 413, "images"),
    (images(datatype="UINT8"), 422, "needs BYTES"),
    (images(datatype="B" * 100_000), 422, "needs BYTES"),
    (images(name="photos"), 422, "the inputs are images"),
    (images(name="\x1b[31m\u2028"), 422, "the inputs are images"),
    (images(data=[1]), 422, "base64"),
    (images(data=["%%%"]), 422, "base64"),
    (images(data=[{"base64": "AAAA"}]), 422, "base64"),
    (images(data=None), 422, "needs either data"),
    (images(parameters={"binary_data_size": 4}), 422, "needs either data"),
    (images(parameters={"binary_data_size": -4}, data=None), 422, "greater than or equal to 0"),
    (images() | {"outputs": [{"name": "heatmaps"}]}, 422, "the outputs are people_count"),
    (images() | {"outputs": [{"name": "boxes"}, {"name": "boxes"}]}, 422, "twice"),
    (images() | {"outputs": [{"name": "boxes"}] * 1000}, 422, "at most 16"),
    (images() | {"parameters": {"min_score": 1}}, 422, "min_score"),
    (images() | {"parameters": {"max_people": 0}}, 422, "max_people"),
    (images() | {"parameters": {"min_detection_score": "much"}}, 422, "min_detection_score"),
    (images() | {"id": "x" * 10_000}, 422, "id"),
    ({"inputs": []}, 422, "'images' is missing"),
    ({}, 422, "inputs"),
    ({"inputs": images()["inputs"] * 2}, 422, "same name"),
    ({"inputs": images()["inputs"] * 1000}, 422, "at most 3"),
]


async def test_a_bad_request_is_answered_with_the_remedy(api: Api) -> None:
    for request, status, says in BAD_REQUESTS:
        assert_error(await infer(api, request), status, says)
        assert api.services.body_bytes.in_flight == 0


def with_boxes(**changes: object) -> dict[str, Any]:
    return {"inputs": [*images()["inputs"], {"name": "boxes", "datatype": "FP32", "shape": [1, 4], "data": BOX} | changes]}


BAD_BOXES: list[tuple[Any, ...]] = [
    (with_boxes(shape=[4]), 422, "needs [N, 4]"),
    (with_boxes(shape=[2, 4]), 422, "4 elements"),
    (with_boxes(shape=[10**12, 4]), 422, "more than 50"),
    (with_boxes(data=[1, 2, 3, "4"]), 422, "number"),
    (with_boxes(data=[1, 2, 3, 1e300]), 422, "less than"),
    (with_boxes(data=[[[[[[[[[[1]]]]]]]], 2, 3, 4]]), 422, "dimensions"),
    (with_boxes(datatype="FP64"), 422, "needs FP32"),
    ({"inputs": [*with_boxes()["inputs"], tensor("boxes_count", "INT32", [1], [2])]}, 422, "share out"),
    ({"inputs": [*with_boxes()["inputs"], tensor("boxes_count", "INT32", [1], [1.5])]}, 422, "integer"),
    ({"inputs": [*with_boxes()["inputs"], tensor("boxes_count", "INT32", [10**9], [1])]}, 422, "share out"),
    ({"inputs": [*images()["inputs"], tensor("boxes_count", "INT32", [1], [1])]}, 422, "beside it"),
]


async def test_bad_boxes_are_answered_with_the_remedy(api: Api) -> None:
    for request, status, says in BAD_BOXES:
        assert_error(await infer(api, request), status, says)


async def test_counts_that_are_negative_take_no_boxes_of_others(api: Api) -> None:
    counts = tensor("boxes_count", "INT32", [2], [2, -1])
    inputs = [tensor("images", "BYTES", [2], ["AAAA", "AAAA"]), tensor("boxes", "FP32", [1, 4], BOX), counts]
    assert_error(await infer(api, {"inputs": inputs}), 422, "share out")
    assert_error(await infer(api, {"inputs": inputs[:2]}), 422, "boxes_count")


LYING_SIZES: list[tuple[Any, ...]] = [
    (b"", {}, 400, "length of element 0"),
    (b"\x04\x00", {}, 400, "length of element 0"),
    (b"\xff\xff\xff\xff1234", {}, 400, "4294967295 bytes, and only 4"),
    (struct.pack("<I", 5) + b"1234", {}, 400, "5 bytes, and only 4"),
    (PREFIXED + PREFIXED, {}, 400, "follow the last element"),
    (PREFIXED, {"shape": [2]}, 400, "length of element 1"),
    (PREFIXED, {"parameters": {"binary_data_size": 4}}, 400, "binary_data_size of 4"),
    (PREFIXED, {"parameters": {"binary_data_size": 2**62}}, 400, "binary_data_size of"),
    (PREFIXED, {"parameters": {"binary_data_size": 10**30}}, 400, "binary_data_size of"),
    (PREFIXED, {"parameters": {"binary_data_size": "8"}}, 422, "integer"),
]


async def test_a_lying_size_is_noticed(api: Api) -> None:
    for binary, changes, status, says in LYING_SIZES:
        request = {"inputs": [tensor("images", "BYTES", [1], binary) | changes]}
        assert_error(await infer(api, request, binary), status, says)


async def test_a_lying_length_of_the_json_is_noticed(api: Api) -> None:
    content = json.dumps(images()).encode()
    for length in ("-1", "1e3", "999999", "9" * 5000, "", "0x10", "\xb2"):
        answer = await api.client.post(INFER, content=content, headers=[(LENGTH.encode(), length.encode("latin-1"))])
        assert_error(answer, 400, LENGTH)


HOSTILE_JSON: list[tuple[Any, ...]] = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b'{"inputs": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "recursion"),
    (b'{"inputs": [' + b"0," * 250_000 + b"0]}", 413, "values"),
    (b'{"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": [NaN]}]}', 422, "base64"),
    (b'\xff\xfe{"inputs": []}', 400, "not JSON"),
]


async def test_hostile_json_is_refused(api: Api) -> None:
    for content, status, says in HOSTILE_JSON:
        assert_error(await api.client.post(INFER, content=content), status, says)


async def test_the_limits_of_bodies_and_images_hold(start_api: StartApi, landscape: bytes) -> None:
    api = await start_api(max_bytes=len(landscape) - 1, max_pictures=2, max_request_bytes=3_000_000)
    assert_error(await infer(api, {"inputs": [in_binary(landscape)]}, bytes_tensor(landscape)), 413, "image 0: ")
    assert_error(await infer(api, {"inputs": [in_json(b"a", b"b", b"c")]}), 413, "3 images")
    assert_error(await api.client.post(INFER, content=bytes(3_000_001)), 413, "3000000 bytes")


async def test_keys_are_asked_for_and_name_the_client(
    start_api: StartApi, tmp_path: Path, caplog: pytest.LogCaptureFixture, landscape: bytes
) -> None:
    key, line = new_key("camera-1")
    (tmp_path / "keys").write_text(line)
    caplog.set_level("INFO")
    api = await start_api(api_keys_file=tmp_path / "keys")
    assert_error(await infer(api, {"inputs": [in_json(landscape)]}), 401, "Bearer")
    assert_error(await api.client.get("/v2/models/posewire/ready"), 401, "Bearer")
    assert (await api.client.get("/v2/health/live")).status_code == 200
    assert (await api.client.get("/v2/health/ready")).status_code == 200
    answer = await infer(api, {"inputs": [in_json(landscape)]}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    entries = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert (entries[-1]["client"], entries[-1]["route"], entries[-1]["status"]) == ("key camera-1", "/v2/models/{name}/infer", 200)
    api.client.headers["Authorization"] = f"Bearer {key}"
    assert await api.metric("posewire_rejections_total", reason="unauthorized") == 2


async def test_requests_are_counted_by_their_route(api: Api, landscape: bytes) -> None:
    await infer(api, {"inputs": [in_json(landscape)]})
    await infer(api, {"inputs": []})
    for status in ("200", "422"):
        labels = {"route": "/v2/models/{name}/infer", "method": "POST", "status": status}
        assert await api.metric("posewire_request_duration_seconds_count", **labels) == 1
    assert await api.metric("posewire_rejections_total", reason="bad-parameter") == 1


async def test_rate_limits_count_every_image(start_api: StartApi, landscape: bytes) -> None:
    api = await start_api(rate_limit=0.01, rate_burst=3)
    assert (await infer(api, {"inputs": [in_json(landscape, landscape)]})).status_code == 200
    refused = await infer(api, {"inputs": [in_json(landscape, landscape)]})
    assert_error(refused, 429, "images a second")
    assert int(refused.headers["Retry-After"]) >= 1


async def test_a_full_service_refuses(full: Api, gate: Gate, landscape: bytes) -> None:
    with gate.shut():
        tasks = await hold(full, landscape, 2)
        refused = await infer(full, {"inputs": [in_json(landscape)]})
        assert_error(refused, 503, "in flight")
        assert int(refused.headers["Retry-After"]) >= 1
    for task in tasks:
        assert (await task).status_code == 200
    assert (await infer(full, {"inputs": [in_json(landscape)]})).status_code == 200


async def test_the_callers_timeout_is_a_deadline(start_api: StartApi, models: Engine, gate: Gate, landscape: bytes) -> None:
    api = await start_api(detector=GatedDetector(models.detector, gate))
    with gate.shut():
        timeout = {"parameters": {"timeout": 50_000}}  # microseconds
        assert_error(await infer(api, {"inputs": [in_json(landscape)]} | timeout), 504, "deadline")
        late = await infer(api, {"inputs": [in_json(landscape)]}, headers={"X-Request-Timeout-Ms": "50"})
        assert_error(late, 504, "deadline")

    async def empty() -> bool:
        return await api.in_flight() == 0

    await eventually(empty)


async def test_other_pages_may_read_the_binary_form(start_api: StartApi) -> None:
    api = await start_api(allowed_origins="https://friend.example")
    origin = {"Origin": "https://friend.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": LENGTH.lower()}
    assert (await api.client.options(INFER, headers=origin | asks)).status_code == 200
    answer = await api.client.get("/v2", headers=origin)
    assert LENGTH in answer.headers["Access-Control-Expose-Headers"]
    foreign = await infer(api, images(), headers={"Origin": "https://evil.example"})
    assert_error(foreign, 403, "origin")
