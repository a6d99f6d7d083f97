import numpy as np
import pytest

from posewire.backends.device import cpu_plan
from posewire.backends.onnxruntime import OnnxSession
from posewire.config import Decoding
from posewire.pipeline.pose_estimator import PoseEstimator
from posewire.registry.specs import HeatmapOutput
from posewire.registry.store import ModelStore
from posewire.types import Crop, FloatArray, Frame, Keypoints, UInt8Array
from tests.sample_images import astronaut

STORE = ModelStore()
SPEC = STORE.manifest.default("pose")
OUTPUT = SPEC.output
assert isinstance(OUTPUT, HeatmapOutput)
FLIP_SHIFT = OUTPUT.flip_shift
HEIGHT, WIDTH, STRIDE = SPEC.input.height, SPEC.input.width, OUTPUT.stride
PERSON = np.array([30, 0, 400, 512], np.float32)  # x y w h of the astronaut
CONFIDENT = 0.3

plain = pytest.mark.parametrize("decoding", list(Decoding))


@pytest.fixture(scope="module")
def session() -> OnnxSession:
    return OnnxSession(STORE.verified_bytes(SPEC), SPEC.name, cpu_plan(1, "a test"))


def estimator(session: OnnxSession, *, decoding: Decoding = Decoding.DARK, flip_test: bool = False) -> PoseEstimator:
    return PoseEstimator(SPEC, session, decoding=decoding, flip_test=flip_test)


@pytest.fixture(scope="module")
def crops(session: OnnxSession) -> list[UInt8Array]:
    """Sixteen views of the astronaut."""
    shifts = np.random.default_rng(1).uniform(-60, 60, (16, 4)).astype(np.float32)
    return [crop.pixels for crop in estimator(session).crop(Frame(astronaut()), PERSON + shifts)]


def swapped(values: FloatArray) -> FloatArray:
    """Left and right keypoints in each other's place."""
    return values[list(SPEC.keypoints.mirrored)]


@pytest.mark.parametrize("flip_test", [False, True])
@plain
def test_a_crop_s_keypoints_do_not_depend_on_its_batch(
    session: OnnxSession, crops: list[UInt8Array], decoding: Decoding, flip_test: bool
) -> None:
    model = estimator(session, decoding=decoding, flip_test=flip_test)
    together = model.infer(crops)
    assert len(together) == 16
    for crop, mixed in zip(crops, together, strict=True):
        [alone] = model.infer([crop])
        assert np.abs(alone.xy - mixed.xy).max() < 1e-3
        assert np.abs(alone.scores - mixed.scores).max() < 1e-5
    assert np.abs(together[0].xy - together[1].xy).max() > 0.5  # other crops, other keypoints


@plain
def test_keypoints_lie_in_the_crop_with_scores_in_range(session: OnnxSession, decoding: Decoding) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)
    for found in estimator(session, decoding=decoding).infer([*noise, np.zeros_like(noise[0]), np.full_like(noise[0], 255)]):
        assert found.xy.shape == (len(SPEC.keypoints.names), 2)
        assert ((found.xy >= 0) & (found.xy <= [WIDTH - STRIDE, HEIGHT - STRIDE])).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_the_two_decodings_agree_within_a_heatmap_pixel(session: OnnxSession, crops: list[UInt8Array]) -> None:
    dark, quarter = (estimator(session, decoding=decoding).infer(crops) for decoding in (Decoding.DARK, Decoding.QUARTER))
    apart = np.abs(np.stack([d.xy for d in dark]) - np.stack([q.xy for q in quarter]))
    assert 0 < apart.max() <= 1.25 * STRIDE
    assert all(np.array_equal(d.scores, q.scores) for d, q in zip(dark, quarter, strict=True))


def test_the_flip_test_changes_little(session: OnnxSession, crops: list[UInt8Array]) -> None:
    distances: list[float] = []
    for once, twice in zip(estimator(session).infer(crops), estimator(session, flip_test=True).infer(crops), strict=True):
        sure = once.scores > CONFIDENT
        distances += np.linalg.norm(once.xy - twice.xy, axis=1)[sure].tolist()
    assert len(distances) > 60
    assert 0 < np.median(distances) < STRIDE


def test_with_the_flip_test_a_mirrored_crop_has_mirrored_keypoints(session: OnnxSession, crops: list[UInt8Array]) -> None:
    model = estimator(session, flip_test=True)
    seen = 0
    for straight, mirrored in zip(model.infer(crops), model.infer([crop[:, ::-1] for crop in crops]), strict=True):
        # The mirrored heatmaps are moved by the protocol's shift, so the middle of the symmetry is moved by half of it.
        expected = straight.xy * [-1, 1] + [WIDTH - STRIDE + STRIDE * FLIP_SHIFT, 0]
        sure = (straight.scores > CONFIDENT) & (np.abs(straight.xy[:, 0] - WIDTH / 2) < WIDTH / 2 - 3 * STRIDE)
        seen += int(sure.sum())
        assert np.abs(swapped(mirrored.xy) - expected)[sure].max(initial=0) < STRIDE / 4
    assert seen > 60


def test_a_crop_s_corners_are_the_padded_box_s_corners(session: OnnxSession) -> None:
    model = estimator(session)
    box = np.array([100, 50, 150, 200], np.float32)  # of the crop's aspect
    [crop] = model.crop(Frame(astronaut()), box[None])
    corners = Keypoints(np.array([[0, 0], [WIDTH, HEIGHT], [WIDTH / 2, HEIGHT / 2]], np.float32), np.ones(3, np.float32))
    pose = model.postprocess(box, 0.5, crop, corners)
    expected = np.array([[100 - 18.75, 50 - 25], [250 + 18.75, 250 + 25], [175, 150]])
    assert pose.keypoints.xy == pytest.approx(expected, abs=1e-2)
    assert np.array_equal(pose.box_xywh, box)


@pytest.mark.parametrize(
    ("scores", "score"),
    [
        ([0.9, 0.5, 0.1, 0.0], 0.8 * 0.7),  # those of 0.2 and less do not count
        ([0.2, 0.6], 0.8 * 0.6),
        ([1.0, 1.0], 0.8),
        ([0.1, 0.2, 0.0], 0.0),
    ],
)
def test_a_person_s_score_is_the_box_s_times_the_mean_of_the_sure_keypoints(
    session: OnnxSession, scores: list[float], score: float
) -> None:
    crop = Crop(np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.eye(2, 3, dtype=np.float32))
    found = Keypoints(np.zeros((len(scores), 2), np.float32), np.array(scores, np.float32))
    pose = estimator(session).postprocess(PERSON, 0.8, crop, found)
    assert pose.score == pytest.approx(score)
    assert np.array_equal(pose.keypoints.scores, found.scores)


def test_the_astronaut_s_face_and_shoulders_are_placed(session: OnnxSession) -> None:
    model = estimator(session)
    [crop] = model.crop(Frame(astronaut()), PERSON[None])
    pose = model.postprocess(PERSON, 1.0, crop, model.infer([crop.pixels])[0])
    places = dict(zip(SPEC.keypoints.names, pose.keypoints.xy.tolist(), strict=True))
    for name, truth in {"nose": (225, 121), "left_eye": (248, 103), "right_eye": (202, 101)}.items():
        assert places[name] == pytest.approx(truth, abs=20), name
    assert places["right_shoulder"][0] < places["nose"][0] < places["left_shoulder"][0]
