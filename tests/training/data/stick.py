"""Images of people made of sticks, with all that an annotator would say of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posewire.registry.keypoint_sets import KEYPOINT_SETS
from posewire.types import FloatArray, UInt8Array

# A standing person, in units of its height from the top of the head, x from the middle; left is on the right of the image.
_STANDING = np.array(
    [
        *((0, 0.08), (0.03, 0.06), (-0.03, 0.06), (0.06, 0.08), (-0.06, 0.08)),  # nose, eyes, ears
        *((0.12, 0.2), (-0.12, 0.2), (0.19, 0.35), (-0.19, 0.35), (0.22, 0.5), (-0.22, 0.5)),  # shoulders, elbows, wrists
        *((0.08, 0.52), (-0.08, 0.52), (0.09, 0.74), (-0.09, 0.74), (0.1, 0.95), (-0.1, 0.95)),  # hips, knees, ankles
    ],
    np.float32,
)


SETS = """
[[train]]
name = "sticks"
kind = "coco"
annotations = "train/people.json"
images = "train/images"

[[held_out]]
name = "val"
kind = "coco"
annotations = "val/people.json"
images = "val/images"
"""


@dataclass(frozen=True, slots=True, eq=False)
class Stick:
    """One image with one person."""

    pixels: UInt8Array  # (H, W, 3) RGB
    box_xywh: FloatArray  # (4,)
    keypoints_xy: FloatArray  # (17, 2)


def stick(seed: int, width: int = 160, height: int = 200) -> Stick:
    """A person that moves its limbs, somewhere on a noisy ground."""
    rng = np.random.default_rng(seed)
    # Slow waves, so that every image has a perceptual hash of its own.
    ground = cv2.resize(rng.uniform(40, 220, (14, 11, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    image = np.ascontiguousarray(np.clip(ground + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8))
    size = rng.uniform(0.7, 0.85) * height
    place = np.array([rng.uniform(0.4, 0.6) * width, rng.uniform(0.05, 0.1) * height])
    moved = _STANDING + rng.normal(0, 0.02, _STANDING.shape) * (np.arange(17) >= 7)[:, None]
    points = (moved * size + place).astype(np.float32)
    for n, (a, b) in enumerate(KEYPOINT_SETS["coco-17"].skeleton):
        start, end = points[[a, b]].round().astype(int).tolist()
        cv2.line(image, start, end, (255 - 9 * n, 20 + 11 * n, 40), 3)
    low, high = points.min(0) - 0.05 * size, points.max(0) + 0.05 * size
    return Stick(image, np.concatenate([low, high - low]).astype(np.float32), points)


def save(path: Path, pixels: UInt8Array, quality: int = 95) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])


def coco_set(folder: Path, seeds: range) -> tuple[Path, Path]:
    """COCO's JSON and folder of images, one person each; the seed is the number of the image."""
    images, annotations = [], []
    for seed in seeds:
        made = stick(seed)
        name = f"{seed:012d}.jpg"
        save(folder / "images" / name, made.pixels)
        flat = np.concatenate([made.keypoints_xy, np.full((17, 1), 2)], 1).reshape(-1).tolist()
        box = made.box_xywh.tolist()
        images.append({"id": seed, "file_name": name, "width": 160, "height": 200})
        annotations.append(
            {
                **{"id": seed, "image_id": seed, "category_id": 1, "iscrowd": 0, "bbox": box, "area": box[2] * box[3]},
                **{"num_keypoints": 17, "keypoints": flat},
            }
        )
    file = folder / "people.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    file.write_text(json.dumps(content))
    return file, folder / "images"


def yolo_pose_line(made: Stick) -> str:
    height, width = made.pixels.shape[:2]
    x, y, w, h = made.box_xywh
    joints = [f"{px / width} {py / height} 2" for px, py in made.keypoints_xy]
    return f"0 {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height} {' '.join(joints)}"


def stick_sets(folder: Path, train: int, held_out: int) -> Path:
    """A file of two sets below the folder: so many people to train on, and held out, of seeds 100 and on."""
    coco_set(folder / "train", range(train))
    coco_set(folder / "val", range(100, 100 + held_out))
    file = folder / "sets.toml"
    file.write_text(SETS)
    return file
