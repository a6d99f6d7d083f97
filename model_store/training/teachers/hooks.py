"""The maps of a network's modules, taken or replaced while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

Maps: TypeAlias = Sequence[Tensor]


@contextmanager
def visited(network: nn.Module, places: Sequence[str], visit: Callable[[str, Maps], Maps]) -> Iterator[None]:
    """While it lasts, what each place gives goes through `visit`, and what that returns goes on.

    Args:
        network: whose modules these are.
        places: names of modules that give a map, or a list of maps.
        visit: takes the place and its maps, (N, C, h, w) each; returns as many.

    Raises:
        AttributeError: there is no such module.
    """

    def hook(place: str) -> Callable[[nn.Module, Any, Any], Any]:
        def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                [changed] = visit(place, [output])
                return changed
            return list(visit(place, output))

        return replace

    handles = [network.get_submodule(place).register_forward_hook(hook(place)) for place in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
