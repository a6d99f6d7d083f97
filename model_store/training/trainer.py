"""The loop that both trainings run: steps, average of the weights, checkpoints, curves, and going on after a kill."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from model_store.training import checkpoints, curves
from model_store.training.drawing import Drawing, Source
from model_store.training.progress import Bar, Stretch, training_bar
from model_store.training.recipe import Optimiser, Recipe
from posewire.errors import PosewireError
from posewire.files import make_folder

# A kill costs at most this much work.
CHECKPOINT_SECONDS = 300.0
# Samples, at least, that a training begins with a look at.
_LOOKED_AT = 16


Drawn = TypeVar("Drawn")
Lesson = TypeVar("Lesson")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a step is trained on."""

    total: Tensor  # a scalar with a gradient
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # scalars of it to look at, under the same names every time


class Training(Protocol[Drawn, Lesson]):
    """What is trained, on what."""

    @property
    def network(self) -> nn.Module:
        """With the weights to begin from."""

    @property
    def auxiliary(self) -> nn.Module:
        """What is trained along with the network and kept in checkpoints, but no part of it; may be empty."""

    @property
    def stretches(self) -> Sequence[Stretch]:
        """One behind the other."""

    @property
    def source(self) -> Source[Drawn]:
        """Draws the batches."""

    def prepare(self, batch: Drawn, device: torch.device) -> Lesson:
        """A batch on its device, with what a teacher says of it. Runs on another thread, while the step before it is made."""

    def begin(self, lesson: Lesson, started: bool) -> None:
        """Look at a batch, before the first step of all; `started`: the network has the weights of a checkpoint already."""

    def loss(self, network: nn.Module, lesson: Lesson, share_done: float) -> Loss:
        """What a step is trained on, when this share, 0..1, of the training is done."""

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """Figures of a network in evaluation mode, under the same names every time."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a training runs; nothing here changes what it learns, but for rounding."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bf16: bool = False  # the network's convolutions compute in bfloat16, by autocast
    workers: int = 0  # processes that draw batches; 0: a thread does


def rate_at(optimiser: Optimiser, step: int, share_done: float) -> float:
    """The rate of a step, when this share, 0..1, of the training is done."""
    warm = min(1.0, (step + 1) / optimiser.warmup)
    if optimiser.schedule == "constant":
        return warm * optimiser.rate
    along = max(0.0, min(share_done, 1.0) - optimiser.flat) / (1 - optimiser.flat)
    falling = 0.5 * (1 + math.cos(math.pi * along))
    return warm * (optimiser.floor + max(optimiser.rate - optimiser.floor, 0.0) * falling)


class Trainer(Generic[Drawn, Lesson]):
    """Trains in a folder: `checkpoints/`, `curves.csv`, and `errors.csv` if the loss has parts.

    Batches depend on the recipe's seed and the step only: a training that was killed and went on is the same as one that was not
    (where the recipe gives samples; a training of minutes goes by the clock).

    Args:
        training: what is trained.
        recipe: how.
        work: the folder, which is there and which no other process works in.
        machine: where.
        started: the network has the weights of a checkpoint; no matter once there is a checkpoint in the folder.

    Raises:
        PosewireError: the folder holds a training of another recipe, or only damaged checkpoints.
    """

    def __init__(
        self, training: Training[Drawn, Lesson], recipe: Recipe, work: Path, machine: Machine | None = None, *, started: bool = False
    ) -> None:
        self.training = training
        self.recipe = recipe
        self.work = work
        self.machine = machine or Machine()
        self.folder = work / "checkpoints"
        make_folder(self.folder)
        newest = checkpoints.newest(self.folder)
        self.network = training.network.to(self.machine.device).train()
        self.auxiliary = training.auxiliary.to(self.machine.device)
        if newest is None:
            self._begin(started)
        self.average = copy.deepcopy(self.network).eval()
        how = recipe.optimiser
        self._parameters = [*self.network.parameters(), *self.auxiliary.parameters()]
        self.optimiser = torch.optim.AdamW(self._parameters, lr=how.rate, weight_decay=how.weight_decay, betas=how.betas, fused=True)
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.error_rows: list[dict[str, float]] = []
        self.losses: list[float] = []  # since the last row
        self.parts: dict[str, float] = {}  # sums since the last row
        if newest is not None:
            self._resume(newest)

    @property
    def seen(self) -> int:
        """Samples."""
        return self.step * self.recipe.batch

    @property
    def total(self) -> int:
        """Samples of the whole training; of a training of minutes, what its stages' shares add up to."""
        return sum(stretch.samples for stretch in self.training.stretches)

    @property
    def share_done(self) -> float:
        """0..1 of the training, and beyond."""
        minutes = self.recipe.minutes
        return self.seen / self.total if minutes is None else self.seconds / 60 / minutes

    @property
    def done(self) -> bool:
        """The training is at its end."""
        return self.seen >= self.total if self.recipe.minutes is None else self.share_done >= 1

    def stretch_at(self, step: int) -> int:
        """Index of the stretch that a step is in; of a training of minutes, the stretch that it is in now."""
        ends = np.cumsum([stretch.samples for stretch in self.training.stretches])
        at = step * self.recipe.batch if self.recipe.minutes is None else self.share_done * self.total
        return min(int(np.searchsorted(ends, at, side="right")), len(ends) - 1)

    def run(self, minutes: float | None = None) -> bool:
        """Train until the end, for some minutes, or until SIGTERM or Ctrl-C. What was done is saved.

        Returns:
            Whether the training is at its end.

        Raises:
            PosewireError: the loss is no number any more, or a checkpoint cannot be written.
        """
        with training_bar(self._cost_total(), self._cost_done()) as bar, _stop_asked() as stop:
            end = math.inf if minutes is None else time.monotonic() + 60 * minutes
            saved = time.monotonic()
            for lesson, stretch, began in self._batches():
                self._step(lesson)
                self.seconds += time.monotonic() - began
                self._show(bar, stretch)
                row = self._add_row(stretch) if self._at_row() else None
                now = time.monotonic()
                if row is not None or now - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = now
                if row is not None:  # told when no kill can take it back
                    bar.tell(curves.tell(row))
                if now >= end or stop():
                    break
            self.save()
        return self.done

    def tell(self) -> str:
        """Where the training is, for its user."""
        path = checkpoints.newest(self.folder)
        if self.done:
            return f"done: {path}"
        far = f"{self.seen:,} of {self.total:,} samples"
        if self.recipe.minutes is not None:
            far = f"{self.seconds / 60:.1f} of {self.recipe.minutes:g} minutes, {self.seen:,} samples"
        return f"{far}: {path}; the same command goes on"

    def save(self) -> Path:
        """Write a checkpoint and the curves."""
        at = self.training.stretches[self.stretch_at(max(self.step - 1, 0))]
        path = checkpoints.save(
            self.folder,
            {
                **{"ema": self.average.state_dict(), "m": self.network.state_dict(), "opt": self.optimiser.state_dict()},
                **{"auxiliary": self.auxiliary.state_dict(), "seen": self.seen, "step": self.step, "seconds": self.seconds},
                **{"rows": self.rows, "losses": self.losses, "error_rows": self.error_rows, "parts": self.parts},
                **{"hw": (at.height, at.width), "recipe": self.recipe.model_dump_json()},
            },
        )
        self._write_curves()
        return path

    def _begin(self, started: bool) -> None:
        """The teacher's look at a first batch, which no step is made of."""
        batch = self.training.source.batch(0, max(self.recipe.batch, _LOOKED_AT), np.random.default_rng([self.recipe.seed]))
        self.training.begin(self.training.prepare(batch, self.machine.device), started)

    def _resume(self, path: Path) -> None:
        content = checkpoints.load(path)
        if content.get("recipe") != self.recipe.model_dump_json():
            raise PosewireError(
                f"{self.work} holds a training of another recipe: name another folder, with --start {path} to begin from its weights"
            )
        self.network.load_state_dict(content["m"])
        self.average.load_state_dict(content["ema"])
        self.auxiliary.load_state_dict(content["auxiliary"])
        self.optimiser.load_state_dict(content["opt"])
        self.step, self.seconds = content["step"], content["seconds"]
        self.rows, self.losses = content["rows"], content["losses"]
        self.error_rows, self.parts = content["error_rows"], content["parts"]
        self._write_curves()

    def _write_curves(self) -> None:
        curves.write(self.work / "curves.csv", self.rows)
        if self.error_rows:
            curves.write(self.work / "errors.csv", self.error_rows)

    def _batches(self) -> Iterator[tuple[Lesson, int, float]]:
        """The batches that are left, each made while the step before it runs; its stretch, and when each step began."""
        with Drawing(self.training.source, self.recipe.batch, self.recipe.seed, self.machine.workers) as drawing:

            def make(step: int, stretch: int) -> Lesson:
                return self.training.prepare(drawing.batch(step, stretch), self.machine.device)

            with ThreadPoolExecutor(1) as pool:
                stretch = self.stretch_at(self.step)
                coming = pool.submit(make, self.step, stretch)
                while not self.done:
                    began = time.monotonic()
                    lesson, at = coming.result(), stretch
                    stretch = self.stretch_at(self.step + 1)
                    coming = pool.submit(make, self.step + 1, stretch)
                    yield lesson, at, began

    def _step(self, lesson: Lesson) -> None:
        rate = rate_at(self.recipe.optimiser, self.step, self.share_done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.machine.device.type, torch.bfloat16, enabled=self.machine.bf16):
            loss = self.training.loss(self.network, lesson, self.share_done)
        value, *parts = torch.stack([loss.total.detach(), *(part.detach() for part in loss.parts.values())]).tolist()
        if not math.isfinite(value):
            raise PosewireError(
                f"the loss is {value} after {self.seen:,} samples: start again, it goes on before this; if it recurs, lower the rate"
            )
        self.optimiser.zero_grad()
        torch.autograd.backward([loss.total])
        if self.recipe.optimiser.clip:
            nn.utils.clip_grad_norm_(self._parameters, self.recipe.optimiser.clip)
        self.optimiser.step()
        self.step += 1
        # Young averages forget their random beginnings faster.
        _move_towards(self.average, self.network, 1 - min(self.recipe.ema, (1 + self.step) / (10 + self.step)))
        self.losses.append(value)
        for name, part in zip(loss.parts, parts, strict=True):
            self.parts[name] = self.parts.get(name, 0.0) + part

    def _show(self, bar: Bar, stretch: int) -> None:
        at = self.training.stretches[stretch]
        seen = f"{self.seen:,} of {self.total:,}" if self.recipe.minutes is None else f"{self.seen:,}"
        bar(self._cost_done(), f"{at.height}x{at.width}", seen, self.losses[-1])

    def _cost_total(self) -> float:
        """What a bar counts to: pixels, so that stretches of larger images count for more, or seconds."""
        minutes = self.recipe.minutes
        return float(sum(s.samples * s.pixels for s in self.training.stretches)) if minutes is None else 60 * minutes

    def _cost_done(self) -> float:
        if self.recipe.minutes is not None:
            return self.seconds
        cost, left = 0, self.seen
        for stretch in self.training.stretches:
            part = min(left, stretch.samples)
            cost += part * stretch.pixels
            left -= part
        return float(cost)

    def _at_row(self) -> bool:
        every = self.recipe.log_every
        return self.seen // every > (self.seen - self.recipe.batch) // every or self.done

    def _add_row(self, stretch: int) -> curves.Row:
        at = self.training.stretches[stretch]
        before = self.rows[-1] if self.rows else {"seen": 0.0, "minutes": 0.0}
        minutes = self.seconds / 60
        speed = (self.seen - before["seen"]) / max(60 * (minutes - before["minutes"]), 1e-6)
        row = {
            **{"seen": float(self.seen), "minutes": minutes, "images_per_s": speed, "loss": float(np.mean(self.losses))},
            **{"rate": float(self.optimiser.param_groups[0]["lr"]), "height": float(at.height), "width": float(at.width)},
            **self.training.validate(self.average, stretch),
        }
        self.rows.append(row)
        if self.parts:
            self.error_rows.append({"seen": float(self.seen), **{name: part / len(self.losses) for name, part in self.parts.items()}})
        self.losses, self.parts = [], {}
        return row


def _move_towards(average: nn.Module, network: nn.Module, share: float) -> None:
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    with torch.no_grad():
        floats = [(a, b) for a, b in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], share)
        for a, b in pairs:
            if not a.is_floating_point():
                a.copy_(b)


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether SIGTERM or SIGINT has come; they wait for the end of a step."""
    asked: list[int] = []

    def note(number: int, _: Any) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
