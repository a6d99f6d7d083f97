"""Checkpoints that a kill at any moment cannot spoil.

A file's name tells how far the training was, and the digest of its content: what does not match its name is not read. It gets its
name only when it is on the disk, and the one before it is kept.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from posewire.errors import PosewireError
from posewire.tools.compiler.litehrnet.checkpoint import read_checkpoint

_NAME = re.compile(r"(?P<seen>\d{12})-(?P<digest>[0-9a-f]{16})\.pt")
_KEPT = 2


def save(folder: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint, and remove all but the last two.

    Args:
        folder: is there.
        content: for `torch.save`; `seen` says how far the training is.

    Raises:
        PosewireError: it cannot be written; earlier checkpoints are still there.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    path = folder / f"{content['seen']:012d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    temporary = folder / "next.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PosewireError(f"{path} cannot be written: {error.strerror}; what was saved before is still there") from None
    ours = _newest_first(folder)
    # Those that are further are damaged: the training went on from an earlier one.
    place = ours.index(path)
    for other in [*ours[:place], *ours[place + _KEPT :]]:
        other.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; None: there is none yet.

    Raises:
        PosewireError: there are checkpoints, and all are damaged.
    """
    paths = _newest_first(folder)
    good = next((path for path in paths if _is_whole(path)), None)
    if paths and good is None:
        raise PosewireError(f"all {len(paths)} checkpoints in {folder} are damaged: remove them to start anew")
    return good


def load(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, its tensors on the CPU.

    Raises:
        PosewireError: it cannot be read, or holds other things than tensors, numbers and text.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PosewireError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # torch raises errors of many kinds for damaged files
        raise PosewireError(f"{path} is not a checkpoint: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise PosewireError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def load_weights(path: Path, network: Any, name_of: Callable[[str], str] = str) -> None:
    """Put the weights of a checkpoint into a network: `ema` if it has it, else `m`, else all of it.

    Args:
        path: of a training, or of a release, whose `checkpoints/NAME.safetensors` holds the weights alone.
        network: whose names they have.
        name_of: makes the network's name of a name in the file.

    Raises:
        PosewireError: as `load`, or the weights are another network's.
    """
    if path.suffix == ".safetensors":
        state: dict[str, Any] = {name: torch.tensor(array) for name, array in read_checkpoint(path).items()}
    else:
        content = load(path)
        state = content.get("ema") or content.get("m") or content
    try:
        state = {name_of(name): value for name, value in state.items()}
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError) as error:
        raise PosewireError(f"{path} does not hold this network's weights: {str(error).splitlines()[-1].strip()}") from None
    # How many batches a normalisation has seen plays no part where its momentum is a number: a release leaves it out.
    lacking = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if lacking or unexpected:
        wrong = f"{lacking[0]} is missing" if lacking else f"{unexpected[0]} is none of its names"
        raise PosewireError(f"{path} does not hold this network's weights: {wrong}")


def _newest_first(folder: Path) -> list[Path]:
    named = [(_NAME.fullmatch(path.name), path) for path in folder.glob("*.pt")]
    # Two of the same moment, after a resume: the later written.
    order = sorted((match["seen"], path.stat().st_mtime_ns, path) for match, path in named if match)
    return [path for _, _, path in reversed(order)]


def _is_whole(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] == path.stem.split("-")[1]


def _sync(folder: Path) -> None:
    """A file's new name is on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
