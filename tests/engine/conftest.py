import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def no_endless_loop() -> Iterator[None]:
    """A loop that never gives way would outlast every asyncio.timeout."""

    def stop(*_: object) -> None:
        raise TimeoutError("the event loop is stuck")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
