"""Parameters and multiply-adds of the pose networks, as a table: `python -m model_store.training.counting`."""

import argparse
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model_store.training.networks import NAMES, build


@dataclass(frozen=True)
class Cost:
    """What a network takes."""

    parameters: int  # that are trained
    multiply_adds: int  # for one image: of convolutions and matrix products; all else is free


def cost(network: nn.Module, height: int, width: int) -> Cost:
    """Count a network's parameters, and its multiply-adds for one image of `height` x `width` pixels.

    A multiplication with its addition is one, by torch's own counter. The published tables of Lite-HRNet count batch
    norms and rectifiers too: `posewire.registry.networks.litehrnet.spec.multiply_adds`.
    """
    network = network.to("meta").eval()  # shapes alone: nothing is computed
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, height, width, device="meta"))
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2)


def table(names: list[str], height: int, width: int) -> str:
    """A Markdown table of the costs of networks; of one named `NAME-ccw`, also against `NAME`."""
    lines = [f"| Network, {height}x{width} | Parameters | Multiply-adds |", "|---|---|---|"]
    for name in names:
        found = cost(build(name), height, width)
        plain = cost(build(name.removesuffix("-ccw")), height, width)
        parameters = f"{found.parameters / 1e6:.2f} M{_change(found.parameters, plain.parameters)}"
        lines.append(f"| {name} | {parameters} | {found.multiply_adds / 1e6:.1f} M{_change(found.multiply_adds, plain.multiply_adds)} |")
    return "\n".join(lines)


def _change(count: int, plain: int) -> str:
    return "" if count == plain else f" ({100 * (count / plain - 1):+.0f} %)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m model_store.training.counting", description=__doc__)
    parser.add_argument("--height", type=int, default=256, help="pixels, a multiple of 32 (default: 256)")
    parser.add_argument("--width", type=int, default=192, help="pixels, a multiple of 32 (default: 192)")
    parser.add_argument("names", nargs="*", default=[], help=f"networks (default: all): {', '.join(NAMES)}")
    options = parser.parse_args()
    print(table(options.names or list(NAMES), options.height, options.width))


if __name__ == "__main__":
    main()
