"""What the compiler does to the network that was trained, each thing on its own switch.

None of them changes what the network computes: with all of them off the graph is the plain transcription.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

from posewire.errors import ModelError


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes of the graph compiler."""

    # Batch norms become part of the convolution before them.
    fold_batch_norm: bool = True
    # The published fuse loop counts the finest branch's term twice: it is computed once, and the 2 is in its weights.
    share_fuse_term: bool = True
    # Terms from coarser branches are added at their own size, then upsampled together: nearest upsampling is linear.
    sum_before_upsampling: bool = True
    # The published fuse loop doubles the finest branch: instead of doubling it, what is added to it is halved, and whoever
    # reads it has the factor in its weights.
    fold_doubling: bool = True
    # No split, concat or shuffle: a block works on all channels, those that only pass have an identity kernel and a weight
    # of 1, and the shuffle is a renaming of channels that is folded into the next weights. Channels are padded to 16, the
    # block of ONNX Runtime's NCHWc layout, so that no layout change is left.
    track_channels: bool = True
    # A weight of one value a channel is upsampled to the map's size before the product: ONNX Runtime has no product in its
    # NCHWc layout that broadcasts.
    upsample_weights: bool = True
    # The spatial weight of a block is not applied: it is multiplied into the next block's weights, which are small maps.
    defer_spatial_weight: bool = True

    def __post_init__(self) -> None:
        if self.defer_spatial_weight and not self.track_channels:
            raise ModelError(
                "without track-channels there is no defer-spatial-weight: a shuffle would have to move the weight; do without both"
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Every pass, in the order of the gain table, as the command line spells it."""
        return tuple(f.name.replace("_", "-") for f in fields(cls))

    @classmethod
    def without(cls, names: Iterable[str]) -> Self:
        """All passes but these.

        Raises:
            ModelError: a name is not a pass, or one that is left needs another that is not.
        """
        off = dict.fromkeys(names, False)
        for name in off:
            if name not in cls.names():
                raise ModelError(f"{name!r} is not a pass; known: {', '.join(cls.names())}")
        return cls(**{name.replace("-", "_"): value for name, value in off.items()})

    @classmethod
    def none(cls) -> Self:
        """All passes off."""
        return cls.without(cls.names())
