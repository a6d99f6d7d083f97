"""A release, step by step; nothing is in the store before the last one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from model_store.release.artefacts import prove
from model_store.release.card import card
from model_store.release.entry import baseline, with_model
from model_store.release.places import put, workplace
from model_store.release.precision import as_int8, speed
from model_store.release.request import Request, entry
from model_store.release.scoring import Scored, predict, score, settings_of
from posewire.calibration import Limits
from posewire.errors import ModelError
from posewire.evaluation.joints import Joints, find_people
from posewire.evaluation.predicting import Source
from posewire.evaluation.reliability import Curve, fit
from posewire.files import make_folder
from posewire.models.manifest import load_additions, load_manifest
from posewire.models.specs import PoseSpec
from posewire.models.store import MANIFEST, ModelStore

_MOST_LOST = 0.005  # of AP, by INT8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A network with what is to be served of it, staged so that it can be served."""

    request: Request
    store: Path  # the staged one
    onnx: bytes
    kernels: bytes | None
    scored: Scored


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
        text = _manifest(request.store)
        rival = baseline(text, request.network.task, request.name)
        _refuse_hidden(request, text)
        before = score(request.store, request.network.task, rival, request.held_out) if rival else None
        prepared, notes = _calibrated(request, work, say)
        parity = list(prove(prepared.request.network, prepared.onnx, prepared.kernels))
        for line in parity:
            say(line)
        prepared, precision = _quantized(prepared, work, say)
        comparison = _judge(prepared.scored, before, rival, request.force, say)
        told = card(prepared.request, prepared.scored, comparison=comparison, precision=precision, parity=[*parity, *notes])
        files = _files(prepared, text, told)
        put(request.store, files)
    say(f"{request.name} is in {request.store}: {', '.join(files)}")


def _manifest(store: Path) -> str | None:
    """The text of the store's manifest, which is valid; None: there is none yet."""
    path = store / MANIFEST
    if not path.exists():
        return None
    if load_additions(path) is None:
        load_manifest(path)
    return path.read_text()


def _refuse_hidden(request: Request, text: str | None) -> None:
    """A store of additions cannot replace what ships: the shipped model of the name would go on serving."""
    if text is None or "[defaults]" not in text:
        shipped = {spec.name for spec in ModelStore().manifest.models}
        if request.name in shipped:
            raise ModelError(f"{request.name} ships with Posewire, which would hide the one in {request.store}: give it another name")


def _prepare(request: Request, work: Path, onnx: bytes, kernels: bytes | None) -> _Prepared:
    """Stage a store beside the true one, with links to its other models, and score the new one in it."""
    staged = work / f"store{len(list(work.iterdir()))}"
    store = request.store
    for folder in ("weights", "cards"):
        make_folder(staged / folder)
    for name, content in ((request.files["onnx"], onnx), (request.files["kernels"], kernels), (request.files["card"], b"")):
        if content is not None:
            (staged / name).write_bytes(content)
    text = _manifest(store)
    (staged / MANIFEST).write_text(with_model(text, entry(request, onnx, kernels, []), default=request.default))
    for spec in ModelStore(store).manifest.models if text else ():
        for path in (spec.file, *([spec.kernels.file] if isinstance(spec, PoseSpec) and spec.kernels else [])):
            if (store / path).exists() and not (staged / path).exists():
                make_folder((staged / path).parent)
                (staged / path).symlink_to((store / path).resolve())
    return _Prepared(request, staged, onnx, kernels, score(staged, request.network.task, request.name, request.held_out))


def _compiled(request: Request, work: Path) -> _Prepared:
    return _prepare(request, work, request.network.onnx(), request.network.kernels())


def _calibrated(request: Request, work: Path, say: Say) -> tuple[_Prepared, list[str]]:
    """The network; with its scores calibrated where there are pictures for it, and that pays; and what is to be told of it."""
    plain = _compiled(request, work)
    _tell(plain.scored, say)
    if request.other is None or plain.scored.summary is None:
        return plain, []
    curve = _curve(plain, request)
    fitted = _compiled(replace(request, network=request.network.with_scores(curve)), work)
    assert fitted.scored.summary is not None
    ece = plain.scored.summary.reliability.ece, fitted.scored.summary.reliability.ece
    ap = plain.scored.decisive, fitted.scored.decisive
    taken = ece[1] < ece[0] and ap[1] >= ap[0]
    how = f"scores as sigmoid({curve.scale:.3f} logit {curve.shift:+.3f}), fitted on {request.other.people} people of the training"
    line = f"{how}: ECE {ece[0]:.3f} to {ece[1]:.3f}, AP {ap[0]:.3f} to {ap[1]:.3f}; " + ("in the last layer" if taken else "not taken")
    say(line)
    return (fitted if taken else plain), [line]


def _curve(plain: _Prepared, request: Request) -> Curve:
    assert request.other is not None
    source = Source(settings_of(plain.store, "pose", request.name))
    [rows] = predict(request.other, ["gt"], source, "pictures to calibrate on")
    joints = Joints.of(find_people(request.other.pictures, rows))
    return fit(joints.score, joints.right)


def _quantized(plain: _Prepared, work: Path, say: Say) -> tuple[_Prepared, str]:
    """The INT8 one where it pays, else the float32 one; and the sentence that says why."""
    request = plain.request
    if request.network.task == "detector":
        return plain, "float32. INT8 is made of pose models only."
    if request.other is None:
        return plain, "float32. INT8 was not tried in this release; docs/precision.md says what it cost before."
    spec = ModelStore(plain.store).manifest.get(request.name, "pose")
    settings = settings_of(plain.store, "pose", request.name)
    int8 = as_int8(plain.onnx, spec, request.other, Limits(settings.max_bytes, settings.max_pixels))
    path = work / "int8.onnx"
    path.write_bytes(int8)
    kernels = plain.store / request.files["kernels"] if plain.kernels else None
    timed = speed(path, plain.store / request.files["onnx"], kernels)
    if timed.high >= 1:
        say(f"float32: INT8 {timed}")
        return plain, f"float32. INT8 (1x1 convolutions) {timed} on the machine of the release, so its AP was not looked at."
    quantized = _prepare(request, work, int8, None)
    lost = plain.scored.decisive - quantized.scored.decisive
    sentence = f"INT8 (1x1 convolutions) {timed} on the machine of the release and loses {lost:.4f} of AP"
    say(sentence)
    return (quantized, f"{sentence}: INT8 ships.") if lost < _MOST_LOST else (plain, f"float32: {sentence}, too much.")


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


def _files(prepared: _Prepared, text: str | None, told: str) -> dict[str, bytes]:
    """Everything that goes into the store, the manifest last."""
    request = prepared.request
    contents = {"onnx": prepared.onnx, "kernels": prepared.kernels, "checkpoint": request.network.checkpoint(), "card": told.encode()}
    files = {request.files[kind]: content for kind, content in contents.items() if content is not None}
    made = entry(request, prepared.onnx, prepared.kernels, prepared.scored.as_entries(request.dataset))
    return files | {MANIFEST: with_model(text, made, default=request.default).encode()}


def _tell(scored: Scored, say: Say) -> None:
    for figure in scored.figures:
        say(f"{figure.metric}: {figure.value:.3f}")
