"""A training of a second, to kill: `python -m tests.training.toy WORK`."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model_store.training.progress import Stretch
from model_store.training.recipe import Optimiser, Recipe
from model_store.training.trainer import Loss, Trainer

RECIPE = Recipe(batch=4, log_every=8, ema=0.9, optimiser=Optimiser(rate=0.05, warmup=5))
SAMPLES = 600


class Toy:
    """Finds the weights of a linear function."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(8, 1)
        self.stretches = [Stretch(SAMPLES // 3, 1, 1), Stretch(SAMPLES - SAMPLES // 3, 2, 1)]
        self.spoil_from: float = float("inf")  # samples
        self.auxiliary = nn.ModuleDict({"scale": nn.Linear(1, 1, bias=False)})
        self.begun: list[bool] = []

    @property
    def source(self) -> "Toy":
        return self

    def prepare(self, batch: Tensor, device: torch.device) -> Tensor:
        return batch.to(device)

    def begin(self, lesson: Tensor, started: bool) -> None:
        self.begun.append(started)

    def batch(self, stretch: int, size: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.normal(size=(size, 8)).astype(np.float32)) * (stretch + 1)

    def loss(self, network: nn.Module, lesson: Tensor, share_done: float) -> Loss:
        self.spoil_from -= len(lesson)
        wanted = lesson.sum(1, keepdim=True) + 1
        spoilt = float("nan") if self.spoil_from < 0 else 1.0
        error: Tensor = (network(lesson) - wanted).square().mean()
        scale: Tensor = (self.auxiliary["scale"](torch.ones(1, 1)) - 3).square().mean()
        return Loss((error + scale) * spoilt, {"scale": scale, "share": torch.tensor(share_done)})

    def validate(self, network: nn.Module, stretch: int) -> Mapping[str, float]:
        with torch.inference_mode():
            return {"error": float((network(torch.ones(1, 8)) - 9).abs())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    Trainer(Toy(), RECIPE, Path(sys.argv[1])).run()
