"""Feature maps whose channels may be in any order.

The compiler never moves a channel to undo a shuffle. It tracks the position of each channel, and reorders the weights.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

# The number of channels that ONNX Runtime's convolutions process at once, on every x86 processor with AVX-512; a multiple of the 8
# of the others.
BLOCK = 16

Slots = npt.NDArray[np.intp]  # (S,): the network's channel that each stored channel is; -1: none, always zero


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """A tensor (N, S, height, width) of the graph and the meaning of its channels.

    Stored channel s is `gain` times the network's channel `slots[s]`.
    """

    tensor: str
    slots: Slots
    height: int
    width: int
    gain: float = 1.0

    def renamed(self, slots: Slots) -> "FeatureMap":
        """Return the same tensor with other names of its channels."""
        return replace(self, slots=slots)


def straight(channels: int, *, padded: bool) -> Slots:
    """Return channels in the network's order, with zeros up to a multiple of the block."""
    slots = np.full(-(-channels // BLOCK) * BLOCK if padded else channels, -1, np.intp)
    slots[:channels] = np.arange(channels)
    return slots


def shuffled(slots: Slots, half: int) -> Slots:
    """Return the names after a channel shuffle with two groups: the halves of 2 x `half` channels interleaved."""
    return np.where(slots >= 0, 2 * (slots % half) + slots // half, -1)


def gather(weight: npt.NDArray[np.float64], rows: Slots, columns: Slots) -> npt.NDArray[np.float64]:
    """Return a (rows, columns) matrix for stored channels, from one for the network's; -1 gives zeros.

    Args:
        weight: (O, I) float64, the network's.
        rows: (R,) the network's output of each stored output.
        columns: (C,) the network's input of each stored input.
    """
    out = np.zeros((len(rows), len(columns)))
    out[np.ix_(rows >= 0, columns >= 0)] = weight[np.ix_(rows[rows >= 0], columns[columns >= 0])]
    return out


def spread(values: npt.NDArray[np.float64], slots: Slots, default: float = 0.0) -> npt.NDArray[np.float64]:
    """Return per-channel values (C, …) for stored channels; -1 gives `default`."""
    out = np.full((len(slots), *values.shape[1:]), default)
    out[slots >= 0] = values[slots[slots >= 0]]
    return out
