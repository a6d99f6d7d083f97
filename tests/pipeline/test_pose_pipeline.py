"""`PosePipeline`, as a program of somebody else uses it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import posewire
from posewire import BadParameter, BadPicture, ConfigError, ModelError, Pose, PosePipeline, PoseResult, TooLarge
from posewire.engine.engine import Engine
from posewire.pipeline.images import ImageSource
from posewire.types import UInt8Array
from tests import sample_images
from tests.sample_images import ASTRONAUT
from tests.videos import walk

BOXES = [[30, 0, 400, 512], [100, 50, 150, 200]]


@pytest.fixture(scope="module")
def pipeline() -> PosePipeline:
    return PosePipeline.load(device="cpu", min_detection_score=0.5)


def assert_same(one: PoseResult, other: PoseResult) -> None:
    assert (one.width, one.height, len(one.people)) == (other.width, other.height, len(other.people))
    for a, b in zip(one.people, other.people, strict=True):
        assert a.score == b.score
        for x, y in ((a.box_xywh, b.box_xywh), (a.keypoints.xy, b.keypoints.xy), (a.keypoints.scores, b.keypoints.scores)):
            np.testing.assert_array_equal(x, y)


def test_the_astronaut_is_found(pipeline: PosePipeline) -> None:
    result = pipeline(ASTRONAUT)
    assert (result.width, result.height) == (512, 512)
    [person] = result.people
    assert isinstance(person, Pose)
    nose = person.keypoints.xy[pipeline.pose.spec.keypoints.names.index("nose")]
    assert nose == pytest.approx((225, 121), abs=20)
    timings = result.timings
    assert min(timings.decode, timings.detect, timings.crop, timings.pose) > 0
    assert timings.total >= timings.decode + timings.detect + timings.crop + timings.pose - 1e-6


async def test_the_result_is_that_of_the_engine(pipeline: PosePipeline, make_engine: Callable[..., Engine], astronaut: bytes) -> None:
    engine = make_engine(min_detection_score=0.1)
    await engine.start()
    expected = await engine.estimate(astronaut, engine.settings.pose_options())
    await engine.close()
    assert len(expected.people) > 1
    assert_same(pipeline(astronaut, min_detection_score=0.1), expected)


SOURCES: dict[str, Callable[[], Any]] = {
    "text": lambda: str(ASTRONAUT),
    "bytes": ASTRONAUT.read_bytes,
    "bytearray": lambda: bytearray(ASTRONAUT.read_bytes()),
    "memoryview": lambda: memoryview(ASTRONAUT.read_bytes()),
    "array": sample_images.astronaut,
    "view": lambda: sample_images.astronaut()[:, ::-1][:, ::-1],
    "pil": lambda: Image.fromarray(sample_images.astronaut()),
    "pil-rgba": lambda: Image.fromarray(sample_images.astronaut()).convert("RGBA"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_gives_the_same(pipeline: PosePipeline, source: str) -> None:
    assert_same(pipeline(SOURCES[source]()), pipeline(ASTRONAUT))


def test_an_array_of_opencv_is_bgr(pipeline: PosePipeline) -> None:
    assert_same(pipeline(np.ascontiguousarray(sample_images.astronaut()[..., ::-1]), colour="BGR"), pipeline(ASTRONAUT))


def test_a_grey_pil_image_is_as_the_grey_file(pipeline: PosePipeline, tmp_path: Path) -> None:
    grey = Image.fromarray(sample_images.astronaut()).convert("L")
    grey.save(tmp_path / "grey.png")
    assert_same(pipeline(grey), pipeline(tmp_path / "grey.png"))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_pil_image_is_turned_upright_as_the_file_is(pipeline: PosePipeline, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(sample_images.astronaut()[:400]).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert_same(pipeline(image), pipeline(tmp_path / "turned.png"))


def test_a_batch_gives_what_its_images_give_alone(pipeline: PosePipeline) -> None:
    images: list[ImageSource] = [*sample_images.variations(3), sample_images.encode(sample_images.landscape(), ".png"), *[ASTRONAUT] * 15]
    alone = [pipeline(image, min_detection_score=0.1) for image in images]
    together = pipeline.batch(images, min_detection_score=0.1)
    assert len(together) == len(images) > 16
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    assert pipeline.batch([]) == []


def test_a_batch_with_a_bad_image_raises_its_error(pipeline: PosePipeline) -> None:
    with pytest.raises(BadPicture):
        pipeline.batch([ASTRONAUT, b"not an image"])


def test_boxes_are_the_people_in_their_order(pipeline: PosePipeline) -> None:
    result = pipeline(ASTRONAUT, boxes=BOXES)
    assert [person.box_xywh.tolist() for person in result.people] == BOXES
    assert result.timings.detect == 0
    assert_same(pipeline(ASTRONAUT, boxes=np.array(BOXES)), result)
    assert pipeline(ASTRONAUT, boxes=[]).people == ()


def test_the_caller_limits_the_people(pipeline: PosePipeline) -> None:
    many = pipeline(ASTRONAUT, min_detection_score=0.05).people
    assert len(many) > 1
    assert len(pipeline(ASTRONAUT, min_detection_score=0.05, max_people=1).people) == 1
    with pytest.raises(BadParameter, match="2 boxes are more than max_people, which is 1"):
        pipeline(ASTRONAUT, boxes=BOXES, max_people=1)


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (sample_images.astronaut().astype(np.float32) / 255, TypeError, "uint8, with channels 0..255, not float32"),
        (sample_images.astronaut()[..., 0], ValueError, r"\(H, W, 3\), not \(512, 512\)"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"not \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"not \(0, 4, 3\)"),
        (Image.fromarray(np.zeros((4, 4), np.uint16)), ValueError, "8 bits a channel"),
        (3, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        (b"", BadPicture, "nothing"),
        (b"hello", BadPicture, "text"),
        ("nowhere.jpg", FileNotFoundError, "nowhere.jpg"),
        (Path(__file__).parent, OSError, "pipeline"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_image_is_refused(pipeline: PosePipeline, image: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        pipeline(image)


@pytest.mark.parametrize(
    ("boxes", "error"),
    [
        ([1, 2, 3, 4], ValueError),
        ([[1, 2, 3]], ValueError),
        ([[0, 0, float("nan"), 4]], ValueError),
        ([[0, 0, 0, 4]], BadParameter),
        ([[900, 0, 5, 4]], BadParameter),
    ],
)
def test_boxes_that_are_none_are_refused(pipeline: PosePipeline, boxes: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        pipeline(ASTRONAUT, boxes=boxes)


def test_a_colour_of_another_order_is_refused(pipeline: PosePipeline) -> None:
    with pytest.raises(ValueError, match="it must be 'RGB' or 'BGR'"):
        pipeline(ASTRONAUT, colour="GBR")  # type: ignore[arg-type]


def test_load_takes_pairs_devices_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = PosePipeline.load("paper", "cpu", pose_runtime="onnxruntime", max_pixels=1000)
    assert paper.pose.spec.name == "litehrnet18-128x96"
    assert paper.pose.session.provider == "CPUExecutionProvider"
    with pytest.raises(TooLarge):
        paper(ASTRONAUT)
    with pytest.raises(ModelError, match="'slow' is not a pair"):
        PosePipeline.load("slow")
    with pytest.raises(ConfigError, match="POSEWIRE_DEVICE='abacus'"):
        PosePipeline.load(device="abacus")
    monkeypatch.setenv("POSEWIRE_MODELS", "slow")
    with pytest.raises(ModelError, match="'slow' is not a pair"):
        PosePipeline.load()


def test_a_tracker_gives_identities_and_lets_the_detector_rest(pipeline: PosePipeline) -> None:
    tracker = pipeline.tracker(fps=10)
    results = [tracker(pixels) for pixels in walk(8)]
    assert [[person.track_id for person in result.people] for result in results] == [[1]] * 8
    assert sum(result.timings.detect > 0 for result in results) <= 4


def test_a_frame_that_is_refused_has_not_happened(pipeline: PosePipeline) -> None:
    film: list[UInt8Array] = walk(3)
    tracker = pipeline.tracker()
    tracker(film[0], 0.0)
    with pytest.raises(BadPicture):
        tracker(b"damaged", 0.1)
    bgr = cv2.cvtColor(film[1], cv2.COLOR_RGB2BGR)
    assert [person.track_id for person in tracker(np.asarray(bgr, np.uint8), 0.2, colour="BGR").people] == [1]


def test_importing_posewire_imports_nothing_heavy_and_names_are_there() -> None:
    script = "import posewire, sys; print([m for m in ('numpy', 'cv2', 'onnxruntime', 'pydantic', 'httpx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert {"PosePipeline", "PoseTracker", "PoseClient", "AsyncPoseClient", "PoseResult", "PosewireError"} <= set(dir(posewire))
    assert all(getattr(posewire, name) is not None for name in dir(posewire))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = posewire.Nothing


def test_a_limit_of_decoding_holds_for_that_alone(models: Engine, astronaut: bytes, astronaut_pixels: UInt8Array) -> None:
    inside: list[bool] = []

    class Limit:
        def __enter__(self) -> None:
            inside.append(True)

        def __exit__(self, *_: object) -> None:
            inside.append(False)

    pipeline = PosePipeline(models.detector, models.pose, max_bytes=10**7, max_pixels=10**7, decode_limit=Limit())
    pipeline(astronaut_pixels)
    assert inside == []
    pipeline(astronaut)
    assert inside == [True, False]
    with pytest.raises(BadPicture):
        pipeline(astronaut[:2000])
    assert inside == [True, False] * 2
