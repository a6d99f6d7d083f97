"""How fast each way of training is on this CPU: `python -m model_store.training.speed`.

A step is what a recipe's step is but for the data: forward, a loss of the heatmaps, backward, AdamW. Ways take turns, so that what
else the machine does falls on all of them.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from torch import Tensor

from model_store.training.networks import NAMES, build
from model_store.training.operators import use_native

BASELINE = "plain"
WAYS = (BASELINE, "channels-last", "native", "bf16", "compile")


class Trainer:
    """A network that is trained in one of `WAYS`, on one made batch.

    Args:
        way: `native` has the C++ operators, `bf16` autocast to bfloat16, `compile` torch.compile; all but `plain` are
            channels-last.
        name: of the network.
        batch: images a step.
        height: of the images, pixels.
        width: of the images, pixels.
    """

    def __init__(self, way: str, name: str, batch: int, height: int, width: int) -> None:
        torch.manual_seed(0)
        layout = torch.contiguous_format if way == BASELINE else torch.channels_last
        network: Any = build(name)  # torch does not type `to` with a layout
        network.to(memory_format=layout)
        self._way = way
        self._network: Callable[[Tensor], Tensor] = torch.compile(network) if way == "compile" else network
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        self._images = torch.randn(batch, 3, height, width).to(memory_format=layout)
        self._targets = torch.randint(height // 4 * (width // 4), (batch, 17))

    def step(self) -> float:
        """Train once; seconds."""
        use_native(self._way == "native")
        began = time.perf_counter()
        with _precision(self._way):
            heatmaps = self._network(self._images)
        loss = F.cross_entropy(heatmaps.float().flatten(2).transpose(1, 2), self._targets)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        return time.perf_counter() - began


def _precision(way: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if way == "bf16" else nullcontext()


def measure(ways: list[str], name: str, batch: int, height: int, width: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step of each way, after two that do not count: the first compiles, the second finds its memory."""
    trainers = {way: Trainer(way, name, batch, height, width) for way in ways}
    for trainer in trainers.values():
        trainer.step()
        trainer.step()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, trainer in trainers.items():
            seconds[way].append(trainer.step())
    return seconds


def report(seconds: dict[str, list[float]], batch: int, title: str) -> str:
    """A Markdown table: images/s by the median step, and the median of pairwise ratios to the first way's, with quartiles."""
    first, *_ = seconds
    lines = [f"| {title} | images/s | times as fast as {first} |", "|---|---|---|"]
    for way, steps in seconds.items():
        low, middle, high = quantiles([one / other for one, other in zip(seconds[first], steps, strict=True)], n=4)
        ratio = "1" if way == first else f"{middle:.2f} [{low:.2f} {high:.2f}]"
        lines.append(f"| {way} | {batch / median(steps):.1f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m model_store.training.speed", description=__doc__)
    parser.add_argument("--network", choices=NAMES, default="litehrnet-18")
    parser.add_argument("--height", type=int, default=128, help="pixels, a multiple of 32 (default: 128)")
    parser.add_argument("--width", type=int, default=96, help="pixels, a multiple of 32 (default: 96)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (default: 64)")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each way, at least 2 (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="the first is what the others are compared with")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = measure(options.ways, options.network, options.batch, options.height, options.width, options.rounds)
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    title = f"{options.network}, {options.height}x{options.width}, batch {options.batch}, {threads}, torch {torch.__version__}"
    print(report(seconds, options.batch, title))


if __name__ == "__main__":
    main()
