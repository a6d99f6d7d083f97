"""The keypoint sets of pose models, by their names in the manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class KeypointSet:
    """The keypoints of a pose model's channels. Indices count from 0."""

    names: tuple[str, ...]  # K, in the order of the channels
    flip_pairs: tuple[tuple[int, int], ...]  # (left, right) indices that are swapped in a mirrored image
    oks_sigmas: tuple[float, ...]  # K, COCO's spread of annotators for each keypoint, in units of the square root of the person's area
    skeleton: tuple[tuple[int, int], ...]  # pairs of indices to join when drawing


KEYPOINT_SETS: Final[Mapping[str, KeypointSet]] = MappingProxyType(
    {
        "coco17": KeypointSet(
            names=(
                "nose",
                "left_eye",
                "right_eye",
                "left_ear",
                "right_ear",
                "left_shoulder",
                "right_shoulder",
                "left_elbow",
                "right_elbow",
                "left_wrist",
                "right_wrist",
                "left_hip",
                "right_hip",
                "left_knee",
                "right_knee",
                "left_ankle",
                "right_ankle",
            ),
            flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
            oks_sigmas=(
                *(0.026, 0.025, 0.025, 0.035, 0.035),  # face
                *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # arms
                *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # legs
            ),
            skeleton=(
                *((15, 13), (13, 11), (16, 14), (14, 12)),  # legs
                *((11, 12), (5, 11), (6, 12), (5, 6)),  # trunk
                *((5, 7), (6, 8), (7, 9), (8, 10)),  # arms
                *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),  # face
            ),
        ),
        # Joints in the order of MPII (Andriluka et al., CVPR 2014), whose own metric is PCKh: it defines no sigmas.
        # These are COCO's if COCO has the joint, and CrowdPose's for neck and head; thorax and pelvis have their neighbours'.
        "mpii16": KeypointSet(
            names=(
                "right_ankle",
                "right_knee",
                "right_hip",
                "left_hip",
                "left_knee",
                "left_ankle",
                "pelvis",
                "thorax",
                "upper_neck",
                "head_top",
                "right_wrist",
                "right_elbow",
                "right_shoulder",
                "left_shoulder",
                "left_elbow",
                "left_wrist",
            ),
            flip_pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
            oks_sigmas=(
                *(0.089, 0.087, 0.107, 0.107, 0.087, 0.089),  # legs
                *(0.107, 0.079, 0.079, 0.079),  # pelvis, thorax, neck, head
                *(0.062, 0.072, 0.079, 0.079, 0.072, 0.062),  # arms
            ),
            skeleton=(
                *((0, 1), (1, 2), (5, 4), (4, 3)),  # legs
                *((2, 6), (3, 6), (6, 7), (7, 8), (8, 9)),  # trunk and head
                *((7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15)),  # arms
            ),
        ),
    }
)


def keypoint_set_of(names: Iterable[str]) -> KeypointSet:
    """Return the first keypoint set that has all names; if there is none, a set of these names without limbs."""
    given = tuple(dict.fromkeys(names))
    known = next((known for known in KEYPOINT_SETS.values() if set(given) <= set(known.names)), None)
    return known or KeypointSet(names=given, flip_pairs=(), oks_sigmas=(), skeleton=())
