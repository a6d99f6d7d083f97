"""A teacher that is a torch module: it runs where the training runs, and any of its modules can be a meeting place."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_store.training.teachers import Taught
from model_store.training.teachers.hooks import Maps, visited
from posewire.errors import PosewireError


class ModuleTeacher:
    """See `Teacher`.

    Args:
        network: with its weights.
        places: names of its modules.

    Raises:
        PosewireError: it has no module of such a name.
    """

    def __init__(self, network: nn.Module, places: Sequence[str]) -> None:
        lacking = set(places) - {name for name, _ in network.named_modules()}
        if lacking:
            raise PosewireError(f"the teacher has no module {sorted(lacking)[0]}: meet its maps after modules, or take another teacher")
        self.network = network.eval().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        self.places = places

    def __call__(self, images: Tensor) -> Taught:
        """Look at images."""
        maps: dict[str, Maps] = {}

        def note(place: str, found: Maps) -> Maps:
            maps[place] = [x.float() for x in found]
            return found

        if next(self.network.parameters()).device != images.device:
            self.network.to(images.device)
        # In float32 whatever the student computes in: its maps are what is to be learnt.
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False), visited(self.network, self.places, note):
            answer = self.network(images)
        return Taught([answer] if isinstance(answer, Tensor) else list(answer), maps)
