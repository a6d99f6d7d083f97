"""Which of a detector's maps are made as parts of others, and which convolutions end in a sum: known before any map has a size."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from posewire.kernels.quantized import Boxes, Convolution, Double, Entry, Join, Maxima, Quantized, Step, Sum, sources

S = TypeVar("S", bound=Step)


class Joining:
    """What is known of a network's maps, by their names."""

    def __init__(self, network: Quantized) -> None:
        self._steps = {step.out: step for step in network.steps}
        self._state = network.state
        self._readers = Counter(source for step in network.steps for source in sources(step))
        self.scales = _scales(network.steps)  # of all maps
        self.parts = self._parts()  # the join that a map is made in
        self.sums = self._sums()  # the sum that a convolution ends in
        self.bordered = self._bordered()  # maps that a 3x3 convolution reads, or a part of which it does

    def channels(self, name: str) -> int:
        """Of a map."""
        step = self._steps[name]
        if isinstance(step, Entry | Convolution):
            return len(self._state[f"{name}.weight"])
        return sum(map(self.channels, sources(step))) if isinstance(step, Join) else self.channels(sources(step)[0])

    def _parts(self) -> dict[str, Join]:
        """Those that nothing else reads, or that have the join's own scale; each in one join only, and no join in another.

        Maxima are bytes that were there before, so that they have no scale of their own to be made in.
        """
        found: dict[str, Join] = {}
        for join in self._of(Join):
            for source in join.sources:
                step = self._steps[source]
                rescaled = self._readers[source] == 1 and not isinstance(step, Maxima)
                fits = rescaled or self.scales[source] == join.scale
                if fits and not isinstance(step, Join) and source not in found and join.sources.count(source) == 1:
                    found[source] = join
        return found

    def _sums(self) -> dict[str, Sum]:
        """Of convolutions that nothing but the sum reads, and that come after the other map."""
        order = {name: number for number, name in enumerate(self._steps)}
        found: dict[str, Sum] = {}
        for step in self._of(Sum):
            later = max(step.sources, key=order.__getitem__)
            if isinstance(self._steps[later], Convolution) and self._readers[later] == 1:
                found[later] = step
        return found

    def _bordered(self) -> set[str]:
        read = {step.source for step in self._of(Convolution) if self._state[f"{step.out}.weight"].shape[-1] != 1}
        return read | {join.out for join in self._of(Join) if not read.isdisjoint(join.sources)}

    def _of(self, kind: type[S]) -> list[S]:
        return [step for step in self._steps.values() if isinstance(step, kind)]


def _scales(steps: Sequence[Step]) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in steps:
        match step:
            case Maxima() | Double():
                found[step.out] = found[step.source]
            case Entry() | Convolution() | Sum() | Join():
                found[step.out] = step.scale
            case Boxes():
                pass
    return found
