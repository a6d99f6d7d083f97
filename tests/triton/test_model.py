"""The exported model `posewire`: its answers are those of PosePipeline and of Posewire's own endpoint."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from posewire.config import load_settings
from posewire.errors import ConfigError, ModelError
from posewire.formats.result import NamedPoseResult
from posewire.imaging.header import DAMAGED
from posewire.pipeline.pose_pipeline import PosePipeline
from posewire.schemas.inference_protocol import INPUTS, InferParams, outputs
from posewire.server.app import create_app
from tests.sample_images import ASTRONAUT, encode, landscape, variations
from tests.server.open_inference import INFER, in_json
from tests.triton.server import Array, Request, Server, TritonError, error_of, images, outputs_of

PHOTO = ASTRONAUT.read_bytes()
EMPTY = encode(landscape())
# Sizes of batches that differ change the last bits of a network's output. The answers round to thousandths.
PIXELS = 0.01
SCORE = 0.001


def agrees(found: dict[str, Array], results: list[NamedPoseResult]) -> None:
    """Compare an answer with the pipeline's results, person by person."""
    people = [person for result in results for person in result.people]
    assert found["people_count"].tolist() == [len(result.people) for result in results]
    assert found["image_size"].tolist() == [[result.width, result.height] for result in results]
    assert found["image_index"].tolist() == [i for i, result in enumerate(results) for _ in result.people]
    assert len(found["boxes"]) == len(found["scores"]) == len(found["keypoints"]) == len(people)
    for person, box, score, keypoints in zip(people, found["boxes"], found["scores"], found["keypoints"], strict=True):
        np.testing.assert_allclose(box, person.box_xywh, atol=PIXELS)
        assert score == pytest.approx(person.score, abs=SCORE)
        np.testing.assert_allclose(keypoints[:, :2], person.keypoints.xy, atol=PIXELS)
        np.testing.assert_allclose(keypoints[:, 2], person.keypoints.scores, atol=SCORE)


def test_the_people_of_an_image_are_those_of_the_pipeline(server: Server, pipeline: PosePipeline) -> None:
    found = outputs_of(server.infer({"images": images(PHOTO)}))
    agrees(found, [pipeline(PHOTO)])
    assert len(found["people_count"]) == 1
    assert found["people_count"][0] >= 1


def test_images_of_a_request_go_through_both_networks_together(server: Server, pipeline: PosePipeline) -> None:
    files = [PHOTO, EMPTY, *variations(3), encode(landscape(), ".png")]
    found = outputs_of(server.infer({"images": images(*files)}, min_detection_score=0.3))
    results = [pipeline(file, min_detection_score=0.3) for file in files]
    assert 0 in [len(result.people) for result in results]
    agrees(found, results)
    assert server.batches == {"posewire_detector": [6], "posewire_pose": [sum(len(result.people) for result in results)]}


def test_the_texts_of_people_are_the_service_s_json(server: Server) -> None:
    found = outputs_of(server.infer({"images": images(PHOTO)}, ["people", "keypoints"], min_keypoint_score=0.5))
    [text] = found["people"]
    image = json.loads(text)
    [person] = image["people"]
    kept = found["keypoints"][0][found["keypoints"][0][:, 2] > 0]
    assert (image["width"], image["height"]) == (512, 512)
    assert [[point["x"], point["y"], point["score"]] for point in person["keypoints"]] == [pytest.approx(row) for row in kept.tolist()]
    assert len(kept) < 17
    assert image["timings_ms"]["decode"] > 0


def test_given_boxes_take_the_place_of_the_detector(server: Server, pipeline: PosePipeline) -> None:
    boxes = np.array([[70, 5, 300, 500], [0, 0, 100, 100], [30, 0, 400, 512]], np.float32)
    given = {"images": images(PHOTO, EMPTY, PHOTO), "boxes": boxes, "boxes_count": np.array([1, 0, 2], np.int32)}
    found = outputs_of(server.infer(given))
    agrees(found, [pipeline(file, boxes=some) for file, some in ((PHOTO, boxes[:1]), (EMPTY, boxes[:0]), (PHOTO, boxes[1:]))])
    assert server.batches == {"posewire_detector": [], "posewire_pose": [3]}


def test_more_people_than_a_batch_holds_are_several_runs(server: Server, pipeline: PosePipeline) -> None:
    boxes = np.array([[10 * i, 5 * i, 150 + i, 220] for i in range(35)], np.float32)
    found = outputs_of(server.infer({"images": images(PHOTO), "boxes": boxes}))
    agrees(found, [pipeline(PHOTO, boxes=boxes)])
    assert server.batches["posewire_pose"] == [16, 16, 3]


async def test_an_answer_is_that_of_the_service(server: Server) -> None:
    """As the endpoint `/v2/models/posewire/infer` gives it: a client has to change its address only."""
    files = (PHOTO, EMPTY)
    ours = outputs_of(server.infer({"images": images(*files)}, min_detection_score="0.3", max_people=2))
    app = create_app(load_settings({}, pose_runtime="onnxruntime", device="cpu", max_batch=2, workers=0))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://posewire") as client,
    ):
        request = {"inputs": [in_json(*files)], "parameters": {"min_detection_score": "0.3", "max_people": 2}}
        answer = (await client.post(INFER, json=request)).json()
    assert [output["name"] for output in answer["outputs"]] == list(ours)
    for output in answer["outputs"]:
        mine = ours[output["name"]]
        assert list(mine.shape) == output["shape"], output["name"]
        if output["datatype"] != "BYTES":
            np.testing.assert_allclose(mine.ravel(), output["data"], atol=PIXELS, err_msg=output["name"])
            continue
        for one, other in zip(map(json.loads, mine), map(json.loads, output["data"]), strict=True):
            assert one.keys() == other.keys()
            assert one["timings_ms"].keys() == other["timings_ms"].keys()
            names = [[[point["name"] for point in person["keypoints"]] for person in image["people"]] for image in (one, other)]
            assert names[0] == names[1]


def test_the_tensors_are_those_of_the_protocol_s_page(server: Server) -> None:
    config = server.configs["posewire"]
    names = {"TYPE_STRING": "BYTES", "TYPE_FP32": "FP32", "TYPE_INT32": "INT32"}
    kinds = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number

    def described(tensors: Any) -> list[tuple[str, str, tuple[int, ...]]]:
        return [(tensor.name, names[kinds[tensor.data_type].name], tuple(tensor.dims)) for tensor in tensors]

    assert described(config.input) == [tuple(spec) for spec in INPUTS]
    assert described(config.output) == [tuple(spec) for spec in outputs(17)]
    assert (config.name, config.backend, config.max_batch_size) == ("posewire", "python", 0)


def test_a_bad_image_is_the_error_of_its_request_alone(server: Server) -> None:
    names = ["people_count"]
    good, bad, also_good = (Request({"images": images(data)}, names) for data in (PHOTO, b"\xff\xd8\xffnot a JPEG", PHOTO))
    first, second, third = server.execute([good, bad, also_good])
    assert outputs_of(first)["people_count"].tolist() == outputs_of(third)["people_count"].tolist() == [1]
    message, code = error_of(second)
    assert code == TritonError.INVALID_ARG
    assert message == DAMAGED  # without a number: the request has no other image


@pytest.mark.parametrize(
    ("tensors", "params", "words"),
    [
        ({"images": images(PHOTO, b"text")}, {}, "image 1: "),
        ({"images": images()}, {}, "images holds no image"),
        ({"images": images(*[PHOTO] * 17)}, {}, "17 images are more than the 16"),
        ({"images": images(PHOTO)}, {"max_people": 0}, "max_people"),
        ({"images": images(PHOTO)}, {"min_detection_score": "high"}, "min_detection_score"),
        ({"images": images(PHOTO)}, {"colour": "RGB"}, "colour"),
        ({"images": images(PHOTO), "boxes_count": np.array([1], np.int32)}, {}, "boxes_count needs the tensor boxes"),
        ({"images": images(PHOTO, PHOTO), "boxes": np.ones((2, 4), np.float32)}, {}, "need the tensor boxes_count"),
        (
            {"images": images(PHOTO), "boxes": np.ones((2, 4), np.float32), "boxes_count": np.array([3], np.int32)},
            {},
            "does not share out 2 boxes among 1 images",
        ),
        ({"images": images(PHOTO), "boxes": np.full((1, 4), np.nan, np.float32)}, {}, "boxes"),
        ({"images": images(PHOTO), "boxes": np.array([[600, 0, 5, 5]], np.float32)}, {}, "outside"),
        ({"images": images(PHOTO), "boxes": np.ones((60, 4), np.float32)}, {}, "60 boxes are more than 50"),
    ],
)  # fmt: skip
def test_a_bad_request_says_what_is_wrong(server: Server, tensors: dict[str, Array], params: dict[str, Any], words: str) -> None:
    message, code = error_of(server.infer(tensors, **params))
    assert words in message
    assert code == TritonError.INVALID_ARG
    assert server.batches["posewire_pose"] == []


def test_every_parameter_of_the_protocol_is_taken(server: Server) -> None:
    given: dict[str, Any] = {"min_detection_score": 0.1, "min_keypoint_score": 0.1, "max_people": 1, "binary_data_output": True}
    assert given.keys() | {"timeout"} == InferParams.model_fields.keys()  # Triton takes `timeout` for itself
    assert outputs_of(server.infer({"images": images(PHOTO)}, **given))["people_count"].tolist() == [1]


def test_base64_of_a_json_request_is_decoded_as_the_service_does(server: Server) -> None:
    text = base64.b64encode(PHOTO)
    found = outputs_of(server.infer({"images": images(PHOTO, text, b"data:image/jpeg;base64," + text)}, ["boxes"]))["boxes"]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("network", ["posewire_detector", "posewire_pose"])
@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (TritonError("CUDA error 700"), TritonError.INTERNAL),
        (TritonError("Exceeds maximum queue size", TritonError.UNAVAILABLE), TritonError.UNAVAILABLE),
    ],
)
def test_a_network_that_fails_is_no_fault_of_the_request(server: Server, network: str, cause: TritonError, code: int) -> None:
    server.failing[network] = cause
    message, found = error_of(server.infer({"images": images(PHOTO)}))
    assert found == code
    assert cause.message() not in message  # it is for the log
    server.failing.clear()
    assert outputs_of(server.infer({"images": images(PHOTO)}))["people_count"].tolist() == [1]


def test_a_request_whose_client_has_gone_is_not_run(server: Server) -> None:
    assert error_of(server.infer({"images": images(PHOTO)}, cancelled=True))[1] == TritonError.CANCELLED
    assert server.batches == {"posewire_detector": [], "posewire_pose": []}


def test_a_request_whose_time_is_over_is_not_run(server: Server) -> None:
    message, code = error_of(server.infer({"images": images(PHOTO)}, timeout_us=1))
    assert "deadline" in message
    assert code == TritonError.UNAVAILABLE
    assert server.batches == {"posewire_detector": [], "posewire_pose": []}


def changed(repository: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of a repository with another configuration."""
    shutil.copytree(repository, folder)
    config = folder / "posewire" / "config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    return folder


def test_the_parameters_of_the_configuration_are_settings(repository: Path, tmp_path: Path) -> None:
    crowd = Server(changed(repository, tmp_path / "models", 'string_value: "50"', 'string_value: "2"'))
    boxes = np.array([[70, 5, 300, 500]] * 3, np.float32)
    assert "3 boxes are more than 2" in error_of(crowd.infer({"images": images(PHOTO), "boxes": boxes}))[0]


@pytest.mark.parametrize(("old", "new"), [('"0.35"', '"high"'), ("POSEWIRE_MAX_PEOPLE", "POSEWIRE_MOST_PEOPLE")])
def test_a_bad_parameter_of_the_configuration_is_named(repository: Path, tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=r"POSEWIRE_(MIN_DETECTION_SCORE|MOST_PEOPLE)"):
        Server(changed(repository, tmp_path / "models", old, new))


@pytest.mark.parametrize("content", [None, "{}", "no JSON"])
def test_a_damaged_repository_says_what_to_do(repository: Path, tmp_path: Path, content: str | None) -> None:
    copy = changed(repository, tmp_path / "models", "", "")
    path = copy / "posewire" / "1" / "networks.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ModelError, match=r"networks\.json.*export the folder again"):
        Server(copy)
