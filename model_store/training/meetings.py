"""Block-wise distillation: a student's modules learn to turn a teacher's maps into the teacher's next maps, all at once.

LIT (Koratana et al., ICML 2019, arXiv 1810.01937) and DNA (Li et al., CVPR 2020, arXiv 1911.13053). One forward and one backward pass
train every block: what a block gives is compared with the teacher's map there, and the block behind it gets the teacher's map, or by
chance the student's own. No weight of the teacher is copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_store.training.recipe import Distillation
from model_store.training.teachers import Taught, Teacher
from model_store.training.teachers.hooks import Maps, visited
from posewire.errors import PosewireError

# Of a map's mean variance, added to that of every channel, so that channels that hardly vary do not count most.
FLOOR = 0.1
_SMALLEST = 1e-12  # against division by zero


def own_share(how: Distillation, share_done: float) -> float:
    """How often, 0..1, a block gets its predecessor's own map, when this share of the training is done."""
    first, last = how.own
    return first + (last - first) * min(1.0, share_done / how.ramp)


def variance(maps: Tensor, floor: float) -> Tensor:
    """(1, C, 1, 1): the variance of each channel of maps (N, C, h, w), and `floor` of their mean."""
    each = maps.float().var((0, 2, 3), keepdim=True)
    return (each + floor * each.mean()).clamp(min=_SMALLEST)


def normalised_error(own: Tensor, wanted: Tensor, variances: Tensor) -> Tensor:
    """The mean squared error of maps (N, C, h, w), each channel by its variance (1, C, 1, 1): about 1 for a constant, 0 for the same."""
    return ((own.float() - wanted) ** 2 / variances).mean()


def mixed(own: Tensor, wanted: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Of each image its own map (C, h, w) with the chance `share`, else the teacher's."""
    if share <= 0:
        return wanted.to(own.dtype)
    if share >= 1:
        return own
    chosen = (torch.rand(len(own), generator=generator) < share).to(own.device)[:, None, None, None]
    return torch.where(chosen, own, wanted.to(own.dtype)).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Met:
    """A student's run along its teacher."""

    answer: Sequence[Tensor]  # as the network gives it
    errors: Mapping[str, Tensor]  # of every map that was met; scalars


class Meetings(nn.Module):
    """Where a student meets its teacher's maps: the variances of those, and adapters if asked for.

    Args:
        network: the student.
        teacher: its teacher.
        places: names of the student's modules whose maps are compared.
        height: of the images, pixels.
        width: of the images, pixels.
        adapters: 1x1 convolutions before the comparison; the blocks then never get the teacher's maps.

    Raises:
        PosewireError: the student's maps at a place are of another shape than the teacher's.
    """

    def __init__(self, network: nn.Module, teacher: Teacher, places: Sequence[str], height: int, width: int, *, adapters: bool) -> None:
        super().__init__()
        self.places = places
        blank = torch.zeros(2, 3, height, width)
        taught = teacher(blank)
        own: dict[str, Maps] = {}

        def note(place: str, maps: Maps) -> Maps:
            own[place] = maps
            return maps

        training = network.training
        with torch.no_grad(), visited(network.eval(), places, note):
            network(blank)
        network.train(training)
        for place in places:
            _compare(place, own[place], taught.maps[place], adapters)
        pairs = [pair for place in places for pair in zip(own[place], taught.maps[place], strict=True)]
        # A module's blocks come by before it, though it is named before them.
        names = [(place, number) for place in places for number in range(len(own[place]))]
        self._numbers = {name: number for number, name in enumerate(names)}
        convolutions = [nn.Conv2d(a.shape[1], b.shape[1], 1) if adapters else nn.Identity() for a, b in pairs]
        self.adapters = nn.ModuleList(convolutions).to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        for number, wanted in enumerate([*(b for _, b in pairs), *taught.answer]):
            self.register_buffer(f"variance{number}", torch.ones(1, wanted.shape[1], 1, 1))

    def look(self, taught: Taught, floor: float = FLOOR) -> None:
        """Take the variances of a batch.

        Args:
            taught: what the teacher says of it.
            floor: of the answer's, as `variance` takes it.
        """
        maps = [each for place in self.places for each in taught.maps[place]]
        found = [*(variance(each, FLOOR) for each in maps), *(variance(each, floor) for each in taught.answer)]
        for number, value in enumerate(found):
            self._variance(number).copy_(value)

    def run(self, network: nn.Module, images: Tensor, taught: Taught, share: float, seed: int) -> Met:
        """Run the student along its teacher.

        Args:
            network: the student.
            images: (N, 3, H, W), as the student takes them.
            taught: what the teacher says of them.
            share: how often a block gets its predecessor's own maps.
            seed: of what is left to chance.
        """
        generator = torch.Generator().manual_seed(seed)
        errors: dict[str, Tensor] = {}

        def meet(place: str, own: Maps) -> Maps:
            passed = []
            for number, (each, wanted) in enumerate(zip(own, taught.maps[place], strict=True)):
                name = place if len(own) == 1 else f"{place}/{number}"
                k = self._numbers[place, number]
                errors[name] = normalised_error(self.adapters[k](each), wanted, self._variance(k))
                passed.append(mixed(each, wanted, share, generator))
            return passed

        with visited(network, self.places, meet):
            answer = network(images)
        return Met([answer] if isinstance(answer, Tensor) else list(answer), errors)

    def answer_variance(self, number: int = 0) -> Tensor:
        """(1, C, 1, 1) of one of the answer's maps."""
        return self._variance(len(self.adapters) + number)

    def _variance(self, number: int) -> Tensor:
        return self.get_buffer(f"variance{number}")


def _compare(place: str, own: Maps, wanted: Maps, adapters: bool) -> None:
    ours, theirs = ([tuple(each.shape[1:]) for each in maps] for maps in (own, wanted))
    # Adapters change channels, and no sizes.
    compared = slice(1, None) if adapters else slice(None)
    if [shape[compared] for shape in ours] != [shape[compared] for shape in theirs]:
        raise PosewireError(f"after {place} the student has maps of {ours}, the teacher of {theirs}: they cannot meet there")
