"""The usual answer, written as text.

Through the fields that a schema's object is made of it takes twice the time, and, with the caches emptied by the models, twice the
code to fetch again for every picture. That it is a `PoseResponse`, the tests see to.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import compress
from json import dumps

from posewire.schemas.pose import DECIMALS, SCORE_DECIMALS, stages_ms
from posewire.types import Pose, PoseResult

_XY, _SCORE = f"%.{DECIMALS}f", f"%.{SCORE_DECIMALS}f"
_PICTURE = '{"width":%d,"height":%d,"people":[%s],"timings_ms":{"decode":%.2f,"queue":%.2f,"detect":%.2f,"pose":%.2f,"total":%.2f}}'


def pose_response(
    request_id: str, detector: str, pose: str, results: Sequence[PoseResult], names: tuple[str, ...], min_keypoint_score: float
) -> bytes:
    """JSON of a `PoseResponse`.

    Args:
        request_id: of the caller.
        detector: name of the model.
        pose: name of the model.
        results: of the pictures; their people have no identities.
        names: of the keypoints.
        min_keypoint_score: keypoints below are left out.
    """
    pictures = ",".join([_picture(result, names, min_keypoint_score) for result in results])
    return f'{{"request_id":{dumps(request_id)},{_models(detector, pose)},"images":[{pictures}]}}'.encode()


def _picture(result: PoseResult, names: tuple[str, ...], min_keypoint_score: float) -> str:
    people = ",".join([_person(pose, names, min_keypoint_score) for pose in result.people])
    return _PICTURE % (result.width, result.height, people, *stages_ms(result.timings).values())


def _person(pose: Pose, names: tuple[str, ...], min_keypoint_score: float) -> str:
    scores: list[float] = pose.keypoints.scores.tolist()
    rows = [(x, y, score) for (x, y), score in zip(pose.keypoints.xy.tolist(), scores, strict=True)]
    kept = tuple([score >= min_keypoint_score for score in scores])
    return _form(names, kept) % (*pose.box_xywh.tolist(), pose.score, *[value for row in compress(rows, kept) for value in row])


@cache
def _models(detector: str, pose: str) -> str:
    return f'"model":{{"detector":{dumps(detector)},"pose":{dumps(pose)}}}'


@lru_cache(1024)
def _form(names: tuple[str, ...], kept: tuple[bool, ...]) -> str:
    """What the numbers of a person are put into."""
    quoted = [dumps(name).replace("%", "%%") for name in compress(names, kept)]
    keypoints = ",".join(f'{{"name":{name},"x":{_XY},"y":{_XY},"score":{_SCORE}}}' for name in quoted)
    return f'{{"box":[{_XY},{_XY},{_XY},{_XY}],"score":{_SCORE},"keypoints":[{keypoints}]}}'
