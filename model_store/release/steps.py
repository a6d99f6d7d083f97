"""A release, step by step; nothing is in the store before the last one."""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_store.release.artefacts import prove, slim_checkpoint
from model_store.release.card import card
from model_store.release.entry import baseline, with_model
from model_store.release.places import put, workplace
from model_store.release.request import Request, entry
from model_store.release.scoring import Scored, predict, score, settings_of
from model_store.release.staging import Prepared, compiled, manifest_of
from posewire.errors import ModelError
from posewire.registry.store import MANIFEST, ModelStore
from posewire.tools.evaluate.annotations import Annotations
from posewire.tools.evaluate.joints import Joints, find_people
from posewire.tools.evaluate.predicting import Source
from posewire.tools.evaluate.reliability import fit
from posewire.types import FloatArray

Say = Callable[[str], None]


def release(request: Request, say: Say) -> None:
    """Release a model.

    Args:
        request: what is to be released.
        say: is told a line of every step.

    Raises:
        PosewireError: it is worse than what ships, its files are not the same network, it cannot be served, or a file cannot be written;
            the store is as it was.
    """
    with workplace(request.store) as work:
        text = manifest_of(request.store)
        rival = baseline(text, request.network.task, request.name)
        _refuse_hidden(request, text)
        _refuse_other_files(request, text)
        before = score(request.store, request.network.task, rival, request.held_out) if rival else None
        prepared, notes = _calibrated(request, work, say)
        parity = list(prove(prepared.request.network, prepared.weights.onnx, prepared.weights.kernels))
        for line in parity:
            say(line)
        comparison = _judge(prepared.scored, before, rival, request.force, say)
        told = card(prepared.request, prepared.scored, comparison=comparison, parity=[*parity, *notes])
        files = _files(prepared, text, told)
        put(request.store, files)
    say(f"{request.name} is in {request.store}: {', '.join(files)}")


def _refuse_hidden(request: Request, text: str | None) -> None:
    """A store of additions cannot replace what ships: the shipped model of the name would go on serving."""
    if text is None or "[defaults]" not in text:
        shipped = {spec.name for spec in ModelStore().manifest.models}
        if request.name in shipped:
            raise ModelError(f"{request.name} ships with Posewire, which would hide the one in {request.store}: give it another name")


def _refuse_other_files(request: Request, text: str | None) -> None:
    """Files that another model shares must stay what they are."""
    if request.files_of is None:
        return
    models = {model["name"]: model for model in tomllib.loads(text or "").get("models", [])}
    if request.files_of not in models:
        raise ModelError(
            f"{request.files_of!r}, whose files are to be shared, is not a model of {request.store}; known: {', '.join(models)}"
        )
    if models[request.files_of]["sha256"] != hashlib.sha256(request.network.onnx()).hexdigest():
        raise ModelError(f"the file of {request.files_of} is of another network: release that one first, from this checkpoint")


def _calibrated(request: Request, work: Path, say: Say) -> tuple[Prepared, list[str]]:
    """The network; with its scores calibrated where there are images for it, and that pays; and what is to be told of it."""
    plain = compiled(request, work)
    _tell(plain.scored, say)
    if request.other is None:
        return plain, []
    scores, right = _outcomes(plain, request, request.other)
    curve = fit(scores, right)
    what = "keypoints" if request.network.task == "pose" else "boxes"
    how = f"scores as sigmoid({curve.scale:.3f} logit {curve.shift:+.3f}), fitted on {len(scores)} {what} of images of the training"
    if curve.scale <= 0:
        line = f"{how}: would turn their order round; not taken"
        say(line)
        return plain, [line]
    fitted = compiled(replace(request, calibration=curve), work)
    ece = plain.scored.reliability.ece, fitted.scored.reliability.ece
    ap = plain.scored.decisive, fitted.scored.decisive
    taken = ece[1] < ece[0] and round(ap[1], 3) >= round(ap[0], 3)
    line = f"{how}: ECE {ece[0]:.3f} to {ece[1]:.3f}, AP {ap[0]:.3f} to {ap[1]:.3f}; " + ("taken" if taken else "not taken")
    say(line)
    return (fitted if taken else plain), [line]


def _outcomes(plain: Prepared, request: Request, other: Annotations) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Scores on images of the training, and whether what each is of is right."""
    task = request.network.task
    source = Source(settings_of(plain.store, task, request.name), poses=task == "pose")
    [rows] = predict(other, ["gt" if task == "pose" else "detector"], source, "images to calibrate on")
    if task == "detector":
        return other.judged_boxes(rows)
    joints = Joints.of(find_people(other.images, rows))
    return joints.score, joints.right


def _judge(scored: Scored, before: Scored | None, rival: str | None, force: str | None, say: Say) -> str:
    """How it stands to what shipped, for the card.

    Raises:
        ModelError: it is worse, and there is no reason to ship it all the same.
    """
    if before is None:
        return "Nothing shipped for this task that it could be compared with."
    metric, new, old = scored.figures[0].metric, scored.decisive, before.decisive
    line = f"{rival}, which shipped before, has {old:.3f} there ({metric}); this one {new:.3f}."
    say(line)
    if new >= old:
        return line
    if force is None:
        raise ModelError(
            f"{new:.4f} is worse than the {old:.4f} of {rival} ({metric}): nothing was written; --force REASON ships it all the same"
        )
    return f"{line} It is **worse**, and ships all the same: {force}"


def _files(prepared: Prepared, text: str | None, told: str) -> dict[str, bytes]:
    """Everything that goes into the store, the manifest last."""
    request = prepared.request
    contents = dict(prepared.weights.items()) | {"checkpoint": slim_checkpoint(request.network), "card": told.encode()}
    files = {request.files[kind]: content for kind, content in contents.items()}
    made = entry(request, prepared.weights, prepared.scored.as_entries(request.dataset))
    return files | {MANIFEST: with_model(text, made, default=request.default).encode()}


def _tell(scored: Scored, say: Say) -> None:
    for figure in scored.figures:
        say(f"{figure.metric}: {figure.value:.3f}")
