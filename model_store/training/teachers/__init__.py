"""Teachers: published networks, or checkpoints of our own, whose maps and answers a student is to meet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher says of images, without gradients."""

    answer: Sequence[Tensor]  # as the network gives it: heatmaps, or a map a stride; (N, C, h, w) each
    maps: Mapping[str, Sequence[Tensor]]  # of each meeting place, (N, C, h, w) each


class Teacher(Protocol):
    """A network that was trained before.

    Places are names of a student's modules; a place whose module gives a list of maps has several.
    """

    def __call__(self, images: Tensor) -> Taught:
        """Look at images (N, 3, H, W) float32, normalised; the maps are on their device.

        Raises:
            PosewireError: the teacher is for images of another size.
        """
