"""The loop that both trainings run: steps, average of the weights, checkpoints, curves, and going on after a kill."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from model_store.training import checkpoints, curves
from model_store.training.progress import Bar, Stretch, training_bar
from model_store.training.recipe import Optimiser, Recipe
from posewire.errors import PosewireError
from posewire.files import make_folder

# A kill costs at most this much work.
CHECKPOINT_SECONDS = 300.0

Batch = TypeVar("Batch")


class Training(Protocol[Batch]):
    """What is trained, on what."""

    @property
    def network(self) -> nn.Module:
        """With the weights to begin from."""

    @property
    def stretches(self) -> Sequence[Stretch]:
        """One behind the other."""

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> Batch:
        """Draw a batch; all chance comes from `rng`. Runs on another thread, while the step before it is made."""

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """A scalar with a gradient."""

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        """Figures of a network in evaluation mode, under the same names every time."""


def rate_at(optimiser: Optimiser, step: int, share_done: float) -> float:
    """The rate of a step, when this share, 0..1, of all samples has been seen."""
    warm = min(1.0, (step + 1) / optimiser.warmup)
    if optimiser.schedule == "constant":
        return warm * optimiser.rate
    falling = 0.5 * (1 + math.cos(math.pi * min(share_done, 1.0)))
    return warm * (optimiser.floor + max(optimiser.rate - optimiser.floor, 0.0) * falling)


class Trainer(Generic[Batch]):
    """Trains in a folder: `checkpoints/`, `curves.csv`.

    Batches depend on the recipe's seed and the step only: a training that was killed and went on is the same as one that was not.

    Args:
        training: what is trained.
        recipe: how.
        work: the folder, which is there and which no other process works in.

    Raises:
        PosewireError: the folder holds a training of another recipe, or only damaged checkpoints.
    """

    def __init__(self, training: Training[Batch], recipe: Recipe, work: Path) -> None:
        self.training = training
        self.recipe = recipe
        self.work = work
        self.folder = work / "checkpoints"
        make_folder(self.folder)
        self.network = training.network.train()
        self.average = copy.deepcopy(self.network).eval()
        how = recipe.optimiser
        parameters = self.network.parameters()
        self.optimiser = torch.optim.AdamW(parameters, lr=how.rate, weight_decay=how.weight_decay, betas=how.betas, fused=True)
        self.step = 0
        self.seconds = 0.0
        self.rows: list[dict[str, float]] = []
        self.losses: list[float] = []  # since the last row
        self._resume()

    @property
    def seen(self) -> int:
        """Samples."""
        return self.step * self.recipe.batch

    @property
    def total(self) -> int:
        """Samples of the whole training."""
        return sum(stretch.samples for stretch in self.training.stretches)

    def stretch_at(self, step: int) -> int:
        """Index of the stretch that a step is in."""
        ends = np.cumsum([stretch.samples for stretch in self.training.stretches])
        return min(int(np.searchsorted(ends, step * self.recipe.batch, side="right")), len(ends) - 1)

    def run(self, minutes: float | None = None) -> bool:
        """Train until the end, for some minutes, or until SIGTERM or Ctrl-C. What was done is saved.

        Returns:
            Whether the training is at its end.

        Raises:
            PosewireError: the loss is no number any more, or a checkpoint cannot be written.
        """
        with training_bar(self.training.stretches, self.seen) as bar, _stop_asked() as stop:
            end = math.inf if minutes is None else time.monotonic() + 60 * minutes
            saved = time.monotonic()
            for batch, began in self._batches():
                self._step(batch, bar)
                self.seconds += time.monotonic() - began
                row = self._add_row() if self._at_row() else None
                now = time.monotonic()
                if row is not None or now - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = now
                if row is not None:  # told when no kill can take it back
                    bar.tell(curves.tell(row))
                if now >= end or stop():
                    break
            self.save()
        return self.seen >= self.total

    def tell(self) -> str:
        """Where the training is, for its user."""
        path = checkpoints.newest(self.folder)
        if self.seen >= self.total:
            return f"done: {path}"
        return f"{self.seen:,} of {self.total:,} samples: {path}; the same command goes on"

    def save(self) -> Path:
        """Write a checkpoint and the curves."""
        at = self.training.stretches[self.stretch_at(max(self.step - 1, 0))]
        path = checkpoints.save(
            self.folder,
            {
                **{"ema": self.average.state_dict(), "m": self.network.state_dict(), "opt": self.optimiser.state_dict()},
                **{"seen": self.seen, "step": self.step, "seconds": self.seconds, "rows": self.rows, "losses": self.losses},
                **{"hw": (at.height, at.width), "recipe": self.recipe.model_dump_json()},
            },
        )
        curves.write(self.work / "curves.csv", self.rows)
        return path

    def _resume(self) -> None:
        path = checkpoints.newest(self.folder)
        if path is None:
            return
        content = checkpoints.load(path)
        if content.get("recipe") != self.recipe.model_dump_json():
            raise PosewireError(
                f"{self.work} holds a training of another recipe: name another folder, with --start {path} to begin from its weights"
            )
        self.network.load_state_dict(content["m"])
        self.average.load_state_dict(content["ema"])
        self.optimiser.load_state_dict(content["opt"])
        self.step, self.seconds = content["step"], content["seconds"]
        self.rows, self.losses = content["rows"], content["losses"]
        curves.write(self.work / "curves.csv", self.rows)

    def _batches(self) -> Iterator[tuple[Batch, float]]:
        """The batches that are left, each made while the step before it runs, and when each step began."""

        def make(step: int) -> Batch:
            return self.training.batch(self.stretch_at(step), self.recipe.batch, np.random.default_rng([self.recipe.seed, step]))

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(make, self.step)
            while self.seen < self.total:
                began = time.monotonic()
                batch = coming.result()
                coming = pool.submit(make, self.step + 1)
                yield batch, began

    def _step(self, batch: Batch, bar: Bar) -> None:
        rate = rate_at(self.recipe.optimiser, self.step, self.seen / self.total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss = self.training.loss(self.network, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PosewireError(
                f"the loss is {value} after {self.seen:,} samples: start again, it goes on before this; if it recurs, lower the rate"
            )
        self.optimiser.zero_grad()
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimiser.clip)
        self.optimiser.step()
        self.step += 1
        # Young averages forget their random beginnings faster.
        _move_towards(self.average, self.network, 1 - min(self.recipe.ema, (1 + self.step) / (10 + self.step)))
        self.losses.append(value)
        bar(self.stretch_at(self.step - 1), self.recipe.batch, value)

    def _at_row(self) -> bool:
        every = self.recipe.log_every
        return self.seen // every > (self.seen - self.recipe.batch) // every or self.seen >= self.total

    def _add_row(self) -> curves.Row:
        stretch = self.stretch_at(self.step - 1)
        at = self.training.stretches[stretch]
        before = self.rows[-1] if self.rows else {"seen": 0.0, "minutes": 0.0}
        minutes = self.seconds / 60
        speed = (self.seen - before["seen"]) / max(60 * (minutes - before["minutes"]), 1e-6)
        row = {
            **{"seen": float(self.seen), "minutes": minutes, "pictures_per_s": speed, "loss": float(np.mean(self.losses))},
            **{"rate": float(self.optimiser.param_groups[0]["lr"]), "height": float(at.height), "width": float(at.width)},
            **self.training.validate(self.average, stretch),
        }
        self.rows.append(row)
        self.losses = []
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
