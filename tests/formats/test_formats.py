"""What each format holds, read back by the libraries that people load it with."""

import csv
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import supervision as sv
from pycocotools import coco as pycoco
from pydantic import TypeAdapter
from pydantic_core import to_json

from posewire.errors import BadParameter
from posewire.formats.base import FormatName, ImagePoses
from posewire.formats.cvat import label_definition
from posewire.formats.labelstudio import labelling_config
from posewire.formats.openpose import COCO_18
from posewire.formats.registry import FORMATS, format_of
from posewire.formats.tables import COLUMNS
from posewire.schemas.pose import CocoPerson, PoseParams, PoseResponse
from posewire.types import Keypoints, Pose
from tests.formats.people import COCO, HEIGHT, MPII, WIDTH, image, named, options, person, result


def parsed(form: FormatName, *people: Pose, **chosen: Any) -> Any:
    return json.loads(named(*people).to(form, image="a.jpg", **chosen))


def test_the_registry_has_the_names_of_the_query() -> None:
    names = PoseParams.model_json_schema()["properties"]["format"]["enum"]
    assert list(FORMATS) == names
    with pytest.raises(BadParameter, match="'xml' is none of posewire, coco, openpose"):
        format_of("xml")


def test_coco_is_loaded_by_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(format_of("coco").document([image(person(), name=7), image(name=8), image(person(90.0), name=9)], options())[0])
    ground_truth = pycoco.COCO()
    ground_truth.dataset = {
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT} for i in (7, 8, 9)],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names)}],
    }
    ground_truth.createIndex()
    loaded = ground_truth.loadRes(rows)
    assert loaded.getImgIds() == [7, 8, 9]
    [found] = loaded.loadAnns(loaded.getAnnIds(imgIds=[9]))
    np.testing.assert_allclose(np.reshape(found["keypoints"], (-1, 3))[:, 0], 90 + np.arange(17))
    assert capsys.readouterr().out  # pycocotools prints


def test_coco_is_what_its_schema_writes() -> None:
    rows = named(person(), person(90.0, score=0.123456)).to_coco("a.jpg", min_keypoint_score=0.55)
    schema = TypeAdapter(list[CocoPerson])
    assert to_json(rows) == schema.dump_json(schema.validate_python(rows))
    assert rows[0]["keypoints"][:15] == [0.0] * 15  # below the threshold
    assert rows[0]["keypoints"][15:18] == [55.0, 20.0, 0.55]


def test_openpose_has_the_order_of_its_coco_model_and_a_neck() -> None:
    document = parsed("openpose", person(track_id=4))
    assert document["version"] == 1.3
    [found] = document["people"]
    assert found["person_id"] == [4]
    assert found["face_keypoints_2d"] == []
    points = dict(zip(COCO_18, np.reshape(found["pose_keypoints_2d"], (18, 3)).tolist(), strict=True))
    assert list(points)[:3] == ["nose", "neck", "right_shoulder"]
    for name in set(COCO_18) - {"neck"}:
        i = COCO.names.index(name)
        assert points[name] == pytest.approx([50 + i, 10 + 2 * i, 0.5 + i / 100])
    assert points["neck"] == pytest.approx([55.5, 21, 0.55])  # the middle of 5 and 6, the lower score
    assert parsed("openpose", person())["people"][0]["person_id"] == [-1]


def test_openpose_writes_zeros_for_what_is_missing() -> None:
    [found] = parsed("openpose", person(), min_keypoint_score=0.56)["people"]
    points = dict(zip(COCO_18, np.reshape(found["pose_keypoints_2d"], (18, 3)).tolist(), strict=True))
    assert points["neck"] == [0, 0, 0]  # of one shoulder there is none
    assert points["right_shoulder"][2] == pytest.approx(0.56)


def test_openpose_model_has_the_keypoints_of_any_model() -> None:
    [found] = json.loads(named(person(keypoints=MPII), keypoints=MPII).to("openpose-model"))["people"]
    assert np.reshape(found["pose_keypoints_2d"], (16, 3))[:, 0].tolist() == [50 + i for i in range(16)]
    [found] = json.loads(named(person(keypoints=MPII), keypoints=MPII).to("openpose"))["people"]
    points = dict(zip(COCO_18, np.reshape(found["pose_keypoints_2d"], (18, 3)).tolist(), strict=True))
    assert points["nose"] == [0, 0, 0]  # MPII has none
    assert points["left_wrist"][0] == 50 + MPII.names.index("left_wrist")


def test_csv_is_loaded_by_pandas_and_by_the_standard_library() -> None:
    text = named(person(), person(90.0, track_id=3)).to("csv", image='a, "b".jpg')
    frame = pd.read_csv(io.BytesIO(text))
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 34
    assert set(frame["image"]) == {'a, "b".jpg'}
    assert frame[frame["person"] == 1]["track_id"].unique().tolist() == [3]
    assert frame["frame"].isna().all()
    wrist = frame[(frame["person"] == 1) & (frame["keypoint"] == "left_wrist")].iloc[0]
    assert (wrist["x"], wrist["y"], wrist["score"], wrist["box_x"], wrist["width"]) == (99, 28, 0.59, 85, WIDTH)
    assert len(list(csv.DictReader(io.StringIO(text.decode())))) == 34


def test_parquet_has_the_rows_of_csv_with_types() -> None:
    images = [ImagePoses("walk.mp4", result(person(10.0 + i % 9, track_id=1)), i, i * 40.0) for i in range(3900)]  # some row groups
    data, media_type = format_of("parquet").document(images, options())
    assert media_type == "application/vnd.apache.parquet"
    table = pq.read_table(io.BytesIO(data))
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups > 1
    assert table.num_rows == 3900 * 17
    assert [str(kind) for kind in table.schema.types[:5]] == ["string", "int64", "int64", "int64", "double"]
    assert table["frame"].to_pylist()[-1] == 3899
    few = images[:3]
    from_csv = pd.read_csv(io.BytesIO(format_of("csv").document(few, options())[0]))
    from_parquet = pd.read_parquet(io.BytesIO(format_of("parquet").document(few, options())[0]))
    pd.testing.assert_frame_equal(from_csv, from_parquet, check_dtype=False)


def test_a_parquet_file_without_people_has_its_columns() -> None:
    assert pq.read_table(io.BytesIO(named().to("parquet"))).column_names == list(COLUMNS)


def test_a_data_frame_has_the_same_rows() -> None:
    poses = named(person(track_id=2))
    frame = poses.to_dataframe("a.jpg")
    assert frame["track_id"].dtype == "Int64"
    pd.testing.assert_frame_equal(frame, pd.read_csv(io.BytesIO(poses.to("csv", image="a.jpg"))), check_dtype=False)
    assert list(named().to_dataframe().columns) == list(COLUMNS)
    assert len(poses.to_dataframe(min_keypoint_score=0.6)) == 7


def test_yolo_lines_are_what_its_reader_takes() -> None:
    """The conditions of `verify_image_label` of Ultralytics, version 8: it drops an image that breaks one."""
    outside = person(170.0)  # its box and its last keypoints cross the right border
    labels = np.asarray([line.split() for line in named(person(), outside).to("yolo").decode().splitlines()], np.float32)
    assert labels.shape == (2, 5 + 3 * 17)
    assert labels.min() >= 0
    assert labels[:, 1:5].max() <= 1
    points = labels[:, 5:].reshape(2, 17, 3)
    assert points[..., :2].max() <= 1
    assert labels[0, :5] == pytest.approx([0, 65 / 200, 35 / 100, 40 / 200, 60 / 100])
    assert points[0, 3] == pytest.approx([53 / 200, 16 / 100, 2])
    assert labels[1, 1:5] == pytest.approx([(165 + 200) / 2 / 200, 0.35, 35 / 200, 0.6])
    assert points[1, -1] == pytest.approx([186 / 200, 42 / 100, 2])
    assert (np.asarray(named(person(190.0)).to("yolo").split()[-3:], float) == 0).all()
    assert (np.asarray(named(person()).to("yolo", min_keypoint_score=0.6).split()[5:8], float) == 0).all()


def test_several_yolo_texts_are_an_archive() -> None:
    images = [image(person(), name=0), image(name=1)]
    data, media_type = format_of("yolo").document(images, options())
    assert media_type == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.namelist() == ["0.txt", "1.txt"]
    assert archive.read("0.txt") == named(person()).to("yolo")
    assert archive.read("1.txt") == b""
    assert format_of("yolo").document(images, options())[0] == data


def test_roboflow_is_loaded_by_supervision() -> None:
    document = parsed("roboflow", person(), person(90.0, score=0.6, track_id=5))
    points, boxes = sv.KeyPoints.from_inference(document), sv.Detections.from_inference(document)
    assert points.xy.shape == (2, 17, 2)
    assert points.xy[1, :, 0].tolist() == [90 + i for i in range(17)]
    assert np.asarray(points.keypoint_confidence)[0].tolist() == pytest.approx([0.5 + i / 100 for i in range(17)])
    assert boxes.xyxy.tolist() == [[45, 5, 85, 65], [85, 5, 125, 65]]
    assert np.asarray(boxes.confidence).tolist() == [0.8, 0.6]
    assert np.asarray(boxes.class_id).tolist() == np.asarray(points.class_id).tolist() == [0, 0]
    assert list(boxes.data["class_name"]) == ["person", "person"]
    assert sv.Detections.from_inference(parsed("roboflow")).is_empty()


def test_missing_keypoints_keep_their_places_in_supervision() -> None:
    points, boxes = named(person()).to_supervision(min_keypoint_score=0.56)
    assert len(boxes) == 1
    assert points.xy[0, 5].tolist() == [0, 0]
    assert points.xy[0, 6].tolist() == [56, 22]
    assert np.asarray(points.keypoint_confidence)[0, 5] == 0
    empty = named().to_supervision()
    assert len(empty.key_points) == len(empty.detections) == 0


def test_a_tracked_person_has_its_number_in_supervision() -> None:
    assert np.asarray(named(person(track_id=12)).to_supervision().detections.tracker_id).tolist() == [12]


def test_label_studio_tasks_fit_the_labelling_configuration() -> None:
    """The names, types and percents that Label Studio checks; its own validator takes this task (docs/formats.md)."""
    view = ET.fromstring(labelling_config(COCO))
    tags = {tag.attrib["name"]: tag for tag in view}
    [task] = json.loads(named(person(), person(190.0)).to("labelstudio", image="a.jpg"))
    assert task["data"] == {tags["image"].attrib["value"].removeprefix("$"): "a.jpg"}
    [prediction] = task["predictions"]
    assert prediction["model_version"] == "a-model"
    regions = {region["id"]: region for region in prediction["result"]}
    assert len(regions) == len(prediction["result"])
    for region in regions.values():
        assert region["to_name"] == "image"
        assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
        tag = tags[region["from_name"]]
        assert tag.tag.lower() == region["type"]
        assert set(region["value"][region["type"]]) <= {label.attrib["value"] for label in tag}
        assert all(0 <= region["value"][key] <= 100 for key in ("x", "y"))
    box, nose = regions["person-0"], regions["person-0-nose"]
    assert [box["value"][key] for key in ("x", "y", "width", "height")] == [22.5, 5, 20, 60]
    assert (nose["value"]["x"], nose["value"]["y"], nose["parentID"], nose["score"]) == (25, 10, "person-0", 0.5)
    assert regions["person-1"]["value"]["x"] + regions["person-1"]["value"]["width"] == 100
    assert "person-1-right_ankle" not in regions  # it lies outside of the image


def test_cvat_has_every_point_of_a_skeleton_of_its_label() -> None:
    """What CVAT's importer reads: of an image its name and size, of a skeleton the label, of each point all four attributes."""
    root = ET.fromstring(named(person(), person(190.0)).to("cvat", image="a\x01.jpg", min_keypoint_score=0.505))
    assert root.findtext("version") == "1.1"
    labels = {label.findtext("name"): label for label in root.iter("label")}
    assert labels["person"].findtext("type") == "skeleton"
    assert {name for name, label in labels.items() if label.findtext("parent") == "person"} == set(COCO.names)
    svg = ET.fromstring(f"<svg>{labels['person'].findtext('svg')}</svg>")
    assert [point.attrib["data-label-name"] for point in svg.iter("circle")] == list(COCO.names)
    assert len(list(svg.iter("line"))) == len(COCO.skeleton)
    [imaged] = root.iter("image")
    assert imaged.attrib == {"id": "0", "name": "a\ufffd.jpg", "width": str(WIDTH), "height": str(HEIGHT)}
    first, second = imaged.iter("skeleton")
    assert first.attrib["label"] == "person"
    assert first.findtext("attribute[@name='score']") == "0.8000"
    points = {point.attrib["label"]: point.attrib for point in first.iter("points")}
    assert list(points) == list(COCO.names)
    assert points["left_eye"] == {"label": "left_eye", "source": "auto", "outside": "0", "occluded": "0", "points": "51.000,12.000"}
    assert points["nose"]["outside"] == "1"  # below the threshold
    last = list(second.iter("points"))[-1].attrib
    assert (last["outside"], last["points"]) == ("1", "200.000,42.000")  # outside of the image: at its border


def test_the_label_for_cvat_is_that_of_the_file() -> None:
    [label] = json.loads(label_definition(MPII))
    assert (label["name"], label["type"]) == ("person", "skeleton")
    assert [sublabel["name"] for sublabel in label["sublabels"]] == list(MPII.names)
    root = ET.fromstring(named(keypoints=MPII).to("cvat"))
    assert next(root.iter("svg")).text == label["svg"]


@pytest.mark.parametrize("form", ["posewire", "coco", "openpose", "openpose-model", "csv", "parquet", "roboflow"])
def test_normalized_coordinates_are_divided_by_width_and_height(form: FormatName) -> None:
    poses = named(person())
    readers: dict[str, Callable[[bytes], Any]] = {
        "posewire": lambda data: (json.loads(data)["people"][0]["keypoints"][3], json.loads(data)["people"][0]["box"]),
        "coco": lambda data: (json.loads(data)[0]["keypoints"][9:11], json.loads(data)[0]["bbox"]),
        "openpose": lambda data: (json.loads(data)["people"][0]["pose_keypoints_2d"][51:53], None),
        "openpose-model": lambda data: (json.loads(data)["people"][0]["pose_keypoints_2d"][9:11], None),
        "csv": lambda data: (pd.read_csv(io.BytesIO(data)).iloc[3], None),
        "parquet": lambda data: (pd.read_parquet(io.BytesIO(data)).iloc[3], None),
        "roboflow": lambda data: (json.loads(data)["predictions"][0]["keypoints"][3], None),
    }
    point, box = readers[form](poses.to(form, normalized=True))
    x, y = (point["x"], point["y"]) if not isinstance(point, list) else point
    assert (x, y) == pytest.approx((53 / WIDTH, 16 / HEIGHT))
    assert box in (None, [0.225, 0.05, 0.2, 0.6])


def test_yolo_is_always_normalized() -> None:
    assert named(person()).to("yolo", normalized=True) == named(person()).to("yolo")


@pytest.mark.parametrize(("form", "unit"), [("cvat", "pixels"), ("labelstudio", "percent")])
def test_a_format_with_fixed_units_says_so(form: str, unit: str) -> None:
    with pytest.raises(BadParameter, match=f"coordinates of {form} are {unit}"):
        named(person()).to(form, normalized=True)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_takes_other_keypoints_nobody_and_odd_names(form: FormatName) -> None:
    poses = named(person(keypoints=MPII), keypoints=MPII)
    assert poses.to(form, image="größe & <b>.jpg")
    assert named().to(form) is not None
    data, _ = format_of(form).document([image(), image(person(), name="b.jpg")], options())
    assert data


def test_a_result_knows_its_keypoints_also_in_another_process() -> None:
    poses = pickle.loads(pickle.dumps(named(person())))
    assert poses.keypoint_set.names == COCO.names
    assert poses.to("coco") == named(person()).to("coco")


def answer(*people: Pose, min_keypoint_score: float = 0.0) -> PoseResponse:
    images = [json.loads(named(*people).to("posewire", min_keypoint_score=min_keypoint_score))]
    fields = {"request_id": "r", "model": {"detector": "d", "pose": "a-model"}, "images": images}
    return PoseResponse.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("form", ["coco", "openpose", "csv", "yolo", "roboflow", "labelstudio", "cvat"])
def test_an_answer_of_the_service_has_the_same_conversions(form: str) -> None:
    assert answer(person()).to(form) == named(person()).to(form)


def test_an_answer_without_all_keypoints_has_them_as_missing() -> None:
    filtered = answer(person(), min_keypoint_score=0.6)
    assert filtered.to_coco() == named(person()).to_coco(min_keypoint_score=0.6)
    assert filtered.to("openpose") == named(person()).to("openpose", min_keypoint_score=0.6)
    assert len(filtered.to_dataframe()) == 7
    [found] = filtered.to_supervision()
    assert found.key_points.xy.shape == (1, 17, 2)
    whole = json.loads(answer(person()).to("posewire"))
    assert whole == json.loads(answer(person()).model_dump_json())
    assert json.loads(answer(person()).to("posewire", normalized=True))["images"][0]["people"][0]["box"] == [0.225, 0.05, 0.2, 0.6]


def test_a_missing_keypoint_is_no_number_in_a_file() -> None:
    """A NaN would be no JSON, and a row of a table that nobody asked for."""
    missing = Pose(person().box_xywh, 0.8, Keypoints(person().keypoints.xy, np.full(17, np.nan, np.float32)))
    for form in FORMATS:
        if form != "parquet":
            assert b"nan" not in named(missing).to(form).lower()
    assert len(named(missing).to_dataframe()) == 0
