"""Leeds Sports Poses and their extended training set (Johnson and Everingham, BMVC 2010 and CVPR 2011)."""

from pathlib import Path

import numpy as np

from model_store.training.data.records import KEYPOINTS, Person, image_id
from posewire.errors import PosewireError
from posewire.types import FloatArray

# Ankles, knees, hips from right to left, then wrists, elbows, shoulders; neck and top of the head are no joints of COCO.
_TO_COCO = (16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9)
# Wider than the joints' own box, as a share of its longer side: hands, feet and head go on beyond their joints.
_MARGIN = 0.08


def load_people(folder: Path, *, source: str = "lsp", least_keypoints: int = 6) -> list[Person]:
    """One person an image, 12 of 17 joints. Images that are not in the folder are left out.

    Args:
        folder: with `joints.mat` and `images`. The extended set's joints are (14, 3, N) with a 1 for a joint that is annotated;
            the first set's are (3, 14, N) with a 1 for one that is hidden, and all are annotated.
        source: what to call the set.
        least_keypoints: annotated joints.

    Raises:
        PosewireError: the file is not LSP's, no image is there, or scipy is not installed.
    """
    joints = _joints(folder / "joints.mat")
    paths = [_image(folder / "images", number) for number in range(1, len(joints) + 1)]
    if not any(paths):
        raise PosewireError(f"{folder / 'images'} has no image im00001.jpg or im0001.jpg to im{len(joints):05d}.jpg")
    people = []
    for path, rows in zip(paths, joints, strict=True):
        seen = rows[:, 2] > 0
        if path is None or seen.sum() < least_keypoints:
            continue
        keypoints = np.zeros((KEYPOINTS, 3), np.float32)
        keypoints[list(_TO_COCO)] = rows[: len(_TO_COCO)]
        people.append(Person(path, _box(rows[seen, :2]), keypoints[:, :2], keypoints[:, 2], source, image_id(path, source)))
    return people


def _image(folder: Path, number: int) -> Path | None:
    """The extended set has five digits, the first has four."""
    return next((path for path in (folder / f"im{number:05d}.jpg", folder / f"im{number:04d}.jpg") if path.is_file()), None)


def _joints(file: Path) -> FloatArray:
    """(N, 14, 3) float32: x, y, and 1 where annotated."""
    try:
        from scipy.io import loadmat  # noqa: PLC0415 - only this set needs it
    except ImportError:
        raise PosewireError("LSP's joints.mat needs scipy: pip install 'posewire[train]'") from None
    try:
        joints = np.asarray(loadmat(file)["joints"], np.float32)
    except OSError as error:
        raise PosewireError(f"{file} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise PosewireError(f"{file} is not LSP's file of joints: {type(error).__name__}: {error}") from None
    if joints.ndim == 3 and joints.shape[:2] == (14, 3):
        return joints.transpose(2, 0, 1)
    if joints.ndim == 3 and joints.shape[:2] == (3, 14):
        joints = joints.transpose(2, 1, 0).copy()
        joints[..., 2] = 1
        return joints
    raise PosewireError(f"{file}: joints of shape {joints.shape} are not LSP's: (14, 3, N) or (3, 14, N)")


def _box(points_xy: FloatArray) -> FloatArray:
    low, high = points_xy.min(0), points_xy.max(0)
    margin = _MARGIN * (high - low).max()
    return np.concatenate([low - margin, high - low + 2 * margin]).astype(np.float32)
