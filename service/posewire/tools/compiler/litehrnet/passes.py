"""The optimisation passes of the graph compiler; each has a switch of its own.

No pass changes the result of the network. With all passes off, the graph is a plain transcription.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

from posewire.errors import ModelError


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes of the graph compiler."""

    # The published fuse loop counts the finest branch's term twice. It is computed once, with the factor 2 in its weights.
    share_fuse_term: bool = True
    # Terms from coarser branches are added at their own size, then upsampled together: nearest upsampling is linear.
    sum_before_upsampling: bool = True
    # The published fuse loop doubles the finest branch. Instead, the terms that are added to it are halved, and the weights
    # of its readers have the factor.
    fold_doubling: bool = True
    # Removes split, concat and shuffle. A block processes all channels; unchanged ones have an identity kernel and a weight
    # of 1. The shuffle becomes a reordering of the next weights. Channels are padded to 16, the block of ONNX Runtime's NCHWc
    # layout, so that no layout change is left.
    track_channels: bool = True
    # Upsamples a weight of one value per channel to the map's size before the product: ONNX Runtime has no broadcasting
    # product in its NCHWc layout.
    upsample_weights: bool = True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all passes, as on the command line."""
        return tuple(f.name.replace("_", "-") for f in fields(cls))

    @classmethod
    def without(cls, names: Iterable[str]) -> Self:
        """Return all passes but these.

        Raises:
            ModelError: a name is not a pass.
        """
        off = dict.fromkeys(names, False)
        for name in off:
            if name not in cls.names():
                raise ModelError(f"{name!r} is not a pass; known: {', '.join(cls.names())}")
        return cls(**{name.replace("-", "_"): value for name, value in off.items()})

    @classmethod
    def none(cls) -> Self:
        """Return no passes."""
        return cls.without(cls.names())
