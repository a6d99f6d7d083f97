"""Every layout of outputs, from a file to the pixels of the answer: the files are made here, and their answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from posewire import ConfigError, ModelError, PosePipeline
from posewire.imaging.geometry import cut_crops
from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.types import Frame, UInt8Array
from tests.pipeline.made_networks import brightest_network, constant_network, entry, simcc_answers, write_store
from tests.sample_images import COCO_MINI_VAL, astronaut

HEIGHT, WIDTH = 256, 192  # pixels of a crop
# Padded by a quarter this box is 192 x 256 pixels about (200, 200): a pixel of the crop is a pixel of the image, moved by (104, 72).
BOX, OFFSET = [200 - 76.8, 200 - 102.4, 153.6, 204.8], np.array([104, 72])
RTMDET = COCO_MINI_VAL.parents[1] / "teachers" / "rtmdet-nano-person.onnx"

SETS = ["coco-17", "mpii-16", "crowdpose-14", "hand-21", "halpe-26", "coco-wholebody-133"]


def image(side: int = 400) -> UInt8Array:
    return np.zeros((side, side, 3), np.uint8)


def pose_pipeline(root: Path, content: bytes, output: dict[str, object], keypoints: str = "coco-17", **settings: Any) -> PosePipeline:
    model = entry(root, "made", content, HEIGHT, WIDTH, task="pose", keypoints=keypoints, output=output)
    return PosePipeline.load(device="cpu", model_store=write_store(root, model), pose="made", **settings)


def places(count: int) -> NDArray[Any]:
    """Keypoints in crop pixels, at halves of pixels."""
    rng = np.random.default_rng(count)
    return np.round(rng.uniform([1, 1], [WIDTH - 2, HEIGHT - 2], (count, 2)) * 2) / 2


@pytest.mark.parametrize("name", SETS)
def test_simcc_gives_the_pixels_and_names_of_every_set(tmp_path: Path, name: str) -> None:
    keypoints = KEYPOINT_SETS[name]
    xy, scores = places(len(keypoints.names)), np.linspace(0.3, 0.9, len(keypoints.names))
    pipeline = pose_pipeline(tmp_path, constant_network(HEIGHT, WIDTH, simcc_answers(xy, scores, HEIGHT, WIDTH)), {"layout": "simcc"}, name)
    result = pipeline(image(), boxes=[BOX])
    assert result.people[0].keypoints.xy == pytest.approx(xy + OFFSET, abs=0.01)
    assert result.people[0].keypoints.scores == pytest.approx(scores, abs=1e-6)
    assert result.keypoint_set.names == keypoints.names


@pytest.mark.parametrize("dot", [(150, 130), (104, 72), (295, 327), (201, 200)])
def test_simcc_reads_the_crop_at_the_pixel_of_the_image(tmp_path: Path, dot: tuple[int, int]) -> None:
    pixels = image()
    pixels[dot[1], dot[0]] = 204
    [person] = pose_pipeline(tmp_path, brightest_network(HEIGHT, WIDTH, 17), {"layout": "simcc"})(pixels, boxes=[BOX]).people
    assert person.keypoints.xy == pytest.approx(np.tile(dot, (17, 1)), abs=0.01)
    assert person.keypoints.scores == pytest.approx(0.8, abs=1e-6)


def test_simcc_takes_the_outputs_by_their_names_and_another_split_ratio(tmp_path: Path) -> None:
    xy = np.array([[10.25, 20.75], *places(16)])
    answers = simcc_answers(xy, np.full(17, 1.75), HEIGHT, WIDTH, ratio=4)
    content = constant_network(HEIGHT, WIDTH, {"down": answers["simcc_y"], "across": answers["simcc_x"]})
    output = {"layout": "simcc", "split_ratio": 4, "outputs": ["across", "down"]}
    [person] = pose_pipeline(tmp_path, content, output)(image(), boxes=[BOX]).people
    assert person.keypoints.xy == pytest.approx(xy + OFFSET, abs=0.01)
    assert person.keypoints.scores.max() == 1  # logits above 1 are no scores


def test_the_score_of_simcc_is_that_of_the_worse_axis(tmp_path: Path) -> None:
    answers = dict(simcc_answers(places(17), np.full(17, 0.5), HEIGHT, WIDTH))
    answers["simcc_y"] = answers["simcc_y"] * np.float32(0.5)
    [person] = pose_pipeline(tmp_path, constant_network(HEIGHT, WIDTH, answers), {"layout": "simcc"})(image(), boxes=[BOX]).people
    assert person.keypoints.scores == pytest.approx(0.25)


def test_the_flip_test_of_simcc_finds_left_and_right(tmp_path: Path) -> None:
    # The network answers the same for the crop and for its mirror image, in which a class c of 384 is 383 - c.
    xy = np.tile([30.0, 40.0], (17, 1))
    xy[1], xy[2] = (30.0, 50.0), (383 / 2 - 30, 50.0)  # left and right eye
    content = constant_network(HEIGHT, WIDTH, simcc_answers(xy, np.full(17, 0.8), HEIGHT, WIDTH))
    [person] = pose_pipeline(tmp_path, content, {"layout": "simcc"}, flip_test=True)(image(), boxes=[BOX]).people
    assert person.keypoints.xy[1:3] == pytest.approx(xy[1:3] + OFFSET, abs=0.01)
    assert person.keypoints.scores[1:3] == pytest.approx(0.8, abs=1e-6)
    assert person.keypoints.scores[0] == pytest.approx(0.4, abs=1e-6)  # a nose that is not in the middle: both do not agree


def test_keypoints_that_the_graph_decodes_may_be_two_outputs(tmp_path: Path) -> None:
    xy, scores = places(17).astype(np.float32), np.linspace(0.1, 0.9, 17, dtype=np.float32)
    content = constant_network(HEIGHT, WIDTH, {"xy": xy, "scores": scores})
    [person] = pose_pipeline(tmp_path, content, {"layout": "keypoints", "outputs": ["xy", "scores"]})(image(), boxes=[BOX]).people
    assert person.keypoints.xy == pytest.approx(xy + OFFSET, abs=0.01)
    assert person.keypoints.scores == pytest.approx(scores)


def test_keypoints_that_the_graph_decodes_from_simcc_are_one_output(tmp_path: Path) -> None:
    rows = np.concatenate([places(26), np.full((26, 1), 0.5)], 1).astype(np.float32)
    content = constant_network(HEIGHT, WIDTH, {"output": rows})
    [person] = pose_pipeline(tmp_path, content, {"layout": "keypoints"}, "halpe-26")(image(), boxes=[BOX]).people
    assert person.keypoints.xy == pytest.approx(rows[:, :2] + OFFSET, abs=0.01)


def bumps(at: NDArray[Any], sigma: float = 2.0) -> NDArray[Any]:
    ys, xs = np.mgrid[: HEIGHT // 4, : WIDTH // 4]
    squares = (xs - at[:, 0, None, None]) ** 2 + (ys - at[:, 1, None, None]) ** 2
    return np.asarray(0.9 * np.exp(-squares / (2 * sigma**2)), np.float32)


def test_udp_heatmaps_are_read_by_the_sizes_between_outer_pixels(tmp_path: Path) -> None:
    at = np.random.default_rng(0).uniform([10, 10], [WIDTH / 4 - 11, HEIGHT / 4 - 11], (17, 2))
    at[0] = 20, 30
    pipeline = pose_pipeline(
        tmp_path, constant_network(HEIGHT, WIDTH, {"output": bumps(at)}), {"layout": "heatmaps-udp", "stride": 4, "sigma": 2}
    )
    box = [50, 80, 120, 150]  # extended to 120 x 160, padded to 150 x 200 about (110, 155)
    [person] = pipeline(image(), boxes=[box]).people
    # As MMPose maps them back: fractions of the heatmap, between the middles of its outer pixels, are fractions of the padded box.
    expected = at / [WIDTH / 4 - 1, HEIGHT / 4 - 1] * [150, 200] + [110 - 75, 155 - 100]
    assert person.keypoints.xy[0] == pytest.approx(expected[0], abs=0.01)
    assert person.keypoints.xy == pytest.approx(expected, abs=0.01)
    assert person.keypoints.scores == pytest.approx(0.9, abs=0.06)


def test_a_udp_crop_of_a_mirrored_image_is_the_mirrored_crop() -> None:
    frame = Frame(astronaut())
    box = np.array([[100.3, 40.7, 250.5, 300.2]], np.float32)
    mirrored = box.copy()
    mirrored[:, 0] = frame.width - 1 - box[:, 0] - box[:, 2]
    [crop] = cut_crops(frame, box, HEIGHT, WIDTH, 1.25, unbiased=True)
    [other] = cut_crops(Frame(np.ascontiguousarray(frame.pixels[:, ::-1])), mirrored, HEIGHT, WIDTH, 1.25, unbiased=True)
    difference = np.abs(crop.pixels.astype(int) - other.pixels[:, ::-1])
    assert difference.mean() < 0.5
    assert np.abs(crop.pixels.astype(int) - other.pixels[:, ::-1][:, [0, *range(WIDTH - 1)]]).mean() > 2  # a pixel aside it is not


def test_the_flip_test_of_udp_needs_no_shift(tmp_path: Path) -> None:
    at = np.tile([(WIDTH / 4 - 1) / 2, 30.0], (17, 1))
    at[1], at[2] = (12.0, 20.0), (WIDTH / 4 - 1 - 12, 20.0)
    content, output = constant_network(HEIGHT, WIDTH, {"output": bumps(at)}), {"layout": "heatmaps-udp", "stride": 4, "sigma": 2}
    plain, flipped = tmp_path / "plain", tmp_path / "flipped"
    plain.mkdir()
    flipped.mkdir()
    [one] = pose_pipeline(plain, content, output)(image(), boxes=[BOX]).people
    [two] = pose_pipeline(flipped, content, output, flip_test=True)(image(), boxes=[BOX]).people
    assert two.keypoints.xy == pytest.approx(one.keypoints.xy, abs=0.01)
    assert two.keypoints.scores == pytest.approx(one.keypoints.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("output", "answers", "says"),
    [
        ({"layout": "simcc"}, {"x": np.zeros((17, 384), np.float32)}, r"made has no output 'simcc_x'; it has 'x'"),
        (
            {"layout": "simcc"},
            simcc_answers(places(16), np.ones(16), HEIGHT, WIDTH),
            r"made: by the manifest an output is \(15232,\) \(simcc\); the file gives \(14336,\)",
        ),
        (
            {"layout": "heatmaps-udp", "stride": 4, "sigma": 2},
            {"output": np.zeros((17, 64, 64), np.float32)},
            r"by the manifest an output is \(17, 64, 48\) \(heatmaps-udp\); the file gives \(17, 64, 64\)",
        ),
    ],
)
def test_a_file_with_other_outputs_is_refused(tmp_path: Path, output: dict[str, object], answers: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        pose_pipeline(tmp_path, constant_network(HEIGHT, WIDTH, answers), output)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ({"layout": "simcc"}, "decoding quarter needs heatmaps, but made gives classes of x and y"),
        ({"layout": "heatmaps-udp", "stride": 4, "sigma": 2}, "made was trained with UDP, which has no shift: choose dark"),
    ],
)
def test_the_quarter_shift_is_refused_where_there_is_none(tmp_path: Path, output: dict[str, object], says: str) -> None:
    simcc = output["layout"] == "simcc"
    answers = simcc_answers(places(17), np.ones(17), HEIGHT, WIDTH) if simcc else {"output": bumps(places(17) / 4)}
    with pytest.raises(ConfigError, match=says):
        pose_pipeline(tmp_path, constant_network(HEIGHT, WIDTH, answers), output, decoding="quarter")


SIDE = 64  # pixels of a made detector's input; the image is 400: a pixel of the input is 6.25 of the image
SCALE = 400 / SIDE
# Two people, one box that the better one hides, and something that is no person: x0 y0 x1 y1, the score, the class.
FOUND: list[tuple[list[float], float, int]] = [
    ([8, 4, 24, 60], 0.9, 2),
    ([40, 10, 56, 50], 0.6, 2),
    ([9, 4, 25, 60], 0.5, 2),
    ([30, 30, 50, 50], 0.95, 0),
]
CELLS = SIDE // 8 * SIDE // 8 + SIDE // 16 * SIDE // 16 + SIDE // 32 * SIDE // 32


def detector_pipeline(root: Path, content: bytes, output: dict[str, object], side: int = SIDE) -> PosePipeline:
    model = entry(root, "finder", content, side, side, task="detector", nms_iou=0.5, output=output)
    return PosePipeline.load(device="cpu", model_store=write_store(root, model), detector="finder", max_people=10)


def yolov8_answers() -> NDArray[Any]:
    raw = np.zeros((4 + 3, CELLS), np.float32)
    for i, ([x0, y0, x1, y1], score, label) in enumerate(FOUND):
        raw[:4, 5 * i] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        raw[4 + label, 5 * i] = score
    return raw


def end_to_end_rows() -> NDArray[Any]:
    rows = np.zeros((9, 6), np.float32)
    for row, (box, score, label) in zip(rows, FOUND, strict=False):
        row[:] = *box, score, label
    return rows


def rtmdet_maps(*, logits: bool, strides: bool) -> dict[int, NDArray[Any]]:
    """Maps (3 + 4, h, w) by stride, with each of the boxes in one cell."""
    maps = {stride: np.zeros((7, SIDE // stride, SIDE // stride), np.float32) for stride in (8, 16, 32)}
    for values in maps.values():
        values[:3] = -20 if logits else 0
    for (box, score, label), (stride, col, row) in zip(FOUND, [(8, 2, 3), (16, 3, 1), (8, 2, 4), (32, 1, 1)], strict=True):
        point = np.array([col, row]) * stride
        unit = stride if strides else 1
        maps[stride][3:, row, col] = [*(point - box[:2]) / unit, *(box[2:] - point) / unit]
        maps[stride][label, row, col] = np.log(score / (1 - score)) if logits else score
    return maps


def layouts() -> dict[str, tuple[dict[str, NDArray[Any]], dict[str, object]]]:
    rows = end_to_end_rows()
    split, joined = rtmdet_maps(logits=True, strides=False), rtmdet_maps(logits=False, strides=True)
    two = {f"cls_{s}": maps[:3] for s, maps in split.items()} | {f"box_{s}": maps[3:] for s, maps in split.items()}
    one = {f"level_{s}": maps.transpose(1, 2, 0) for s, maps in joined.items()}
    return {
        "yolov8": ({"output0": yolov8_answers()}, {"layout": "yolov8", "person_class": 2}),
        "six columns": ({"output0": rows}, {"layout": "end2end", "person_class": 2}),
        "dets and labels": (
            {"dets": rows[:, :5], "labels": rows[:, 5].astype(np.int64)},
            {"layout": "end2end", "person_class": 2, "outputs": ["dets", "labels"]},
        ),
        "rtmdet, six maps": (two, {"layout": "rtmdet", "person_class": 2, "outputs": list(two)}),
        "rtmdet, three maps": (
            one,
            {
                "layout": "rtmdet",
                "person_class": 2,
                "outputs": list(one),
                "channels": "last",
                "scores": "probabilities",
                "distances": "strides",
            },
        ),
    }


@pytest.mark.parametrize("layout", layouts())
def test_a_detector_finds_the_people_and_nothing_else(tmp_path: Path, layout: str) -> None:
    answers, output = layouts()[layout]
    pipeline = detector_pipeline(tmp_path, constant_network(SIDE, SIDE, answers, batch=1), output)
    people = sorted(pipeline(image()).people, key=lambda person: float(person.box_xywh[0]))
    expected = [np.array([x0, y0, x1 - x0, y1 - y0]) * SCALE for (x0, y0, x1, y1), _, _ in FOUND[:2]]
    assert len(people) == 2
    assert [person.box_xywh.tolist() for person in people] == [pytest.approx(box, abs=0.01) for box in expected]


def test_an_rtmdet_with_outputs_for_some_strides_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"models\[0\]\.output: 4 outputs are neither one nor two for each of 3 strides"):
        detector_pipeline(tmp_path, b"", {"layout": "rtmdet", "outputs": ["a", "b", "c", "d"]})


@pytest.mark.skipif(not RTMDET.is_file(), reason="the published RTMDet-nano is not here")
def test_a_published_rtmdet_finds_the_astronaut(tmp_path: Path) -> None:
    output = {"layout": "rtmdet", "outputs": ["1211", "1213", "1215"], "channels": "last"}
    model = entry(tmp_path, "finder", RTMDET.read_bytes(), 320, 320, task="detector", nms_iou=0.65, output=output)
    model["input"] = {"height": 320, "width": 320, "colour": "BGR", "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]}
    pipeline = PosePipeline.load(device="cpu", model_store=write_store(tmp_path, model), detector="finder")
    found = pipeline(astronaut(), max_people=1).people[0].box_xywh
    shipped = PosePipeline.load(device="cpu")(astronaut(), max_people=1).people[0].box_xywh
    assert found == pytest.approx(shipped, abs=40)  # another network of the same design, distilled from this one
