"""The policy of every request of images, whatever its protocol: rate, memory for the body, deadline, admission.

`Admission.shed_load`, which a route calls first, rejects a request before its body is read.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Sized
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import HTTPConnection

from posewire.engine.deadlines import until
from posewire.engine.engine import Engine
from posewire.errors import BadParameter, NotReady, ServiceError
from posewire.server.bodies import EncodedImage
from posewire.server.limits import HeldBytes, client_of
from posewire.server.services import Services
from posewire.types import PoseOptions, PoseResult

Body = TypeVar("Body", bound=Sized)


def loaded_engine(services: Services) -> Engine:
    """Return the engine.

    Raises:
        NotReady: the models are not loaded yet.
    """
    if services.engine is None:
        raise NotReady
    return services.engine


def timeout_s(given: str | None, max_ms: int) -> float:
    """Return the seconds that a request may take.

    Args:
        given: value of `X-Request-Timeout-Ms`; None: the caller sent none.
        max_ms: the operator's limit, milliseconds.

    Raises:
        BadParameter: the value is not a number of milliseconds.
    """
    if given is None:
        return max_ms / 1000
    if not re.fullmatch(r"[1-9]\d{0,8}", given, re.ASCII):
        raise BadParameter(f"X-Request-Timeout-Ms: {given!r} is not a positive whole number of milliseconds")
    return min(int(given), max_ms) / 1000


@asynccontextmanager
async def admitted(
    services: Services, connection: HTTPConnection, deadline: float, read: Callable[[HeldBytes], Awaitable[Body]]
) -> AsyncIterator[Body]:
    """Read a request's images, and hold places for them while a block runs.

    Args:
        services: have the limits.
        connection: of the client.
        deadline: in the event loop's time, for the reading.
        read: reads the body and counts its bytes; the length of what it returns is the number of images.

    Raises:
        RateLimited: the client sends too many images.
        Overloaded: the images do not fit.
        DeadlineExceeded: the deadline passed before the body had arrived.
        ServiceError: as `read`.
    """
    services.rate_limit.charge(connection, 1)
    with services.body_bytes.enter(client_of(connection)) as held:
        async with until(deadline, "before the body had arrived"):
            body = await read(held)
        services.rate_limit.charge(connection, len(body) - 1)
        with services.admission.enter(len(body)):
            yield body


async def estimate_all(
    engine: Engine, images: Sequence[EncodedImage], options: Callable[[EncodedImage], PoseOptions], deadline: float
) -> list[PoseResult]:
    """Estimate all images side by side; the first that fails cancels the others.

    Args:
        engine: started.
        images: of one request.
        options: returns the caller's options for an image.
        deadline: in the event loop's time.

    Raises:
        ServiceError: as `Engine.estimate`, with the index of the image if it is at fault and not alone.
    """

    async def one(index: int, image: EncodedImage) -> PoseResult:
        try:
            return await engine.estimate(image.data, options(image), deadline=deadline)
        except ServiceError as error:
            if len(images) > 1 and error.status < 500:  # from 500 on the image is not at fault
                error.image = index
            raise

    if len(images) == 1:
        return [await one(0, images[0])]
    tasks = [asyncio.create_task(one(i, image)) for i, image in enumerate(images)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
