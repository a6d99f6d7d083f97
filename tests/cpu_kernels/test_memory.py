import numpy as np
import pytest

from posewire.backends.cpu_kernels.memory import LINE, Memory


@pytest.mark.parametrize("seed", range(20))
def test_buffers_that_are_in_use_at_one_time_never_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    memory = Memory()
    sizes = rng.integers(1, 500, 40).tolist()
    places = [memory.buffer(size) for size in sizes]
    uses: list[list[int]] = [[] for _ in places]
    for operation in range(60):
        for index in rng.choice(40, 3, replace=False).tolist():
            memory.use(places[index], operation)
            uses[index].append(operation)
    starts, total = memory.laid_out()
    assert all(start % LINE == 0 for start in starts)
    spans = [(start, start + size, min(used), max(used)) for start, size, used in zip(starts, sizes, uses, strict=True) if used]
    assert max(end for _, end, _, _ in spans) <= total
    for i, (begin, end, first, last) in enumerate(spans):
        for other_begin, other_end, other_first, other_last in spans[:i]:
            assert end <= other_begin or other_end <= begin or last < other_first or other_last < first


def test_what_is_over_gives_its_place_to_the_next() -> None:
    memory = Memory()
    for operation in range(10):
        memory.use(memory.buffer(1000), operation)
    _, total = memory.laid_out()
    assert total < 2000
