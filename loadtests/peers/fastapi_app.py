"""A plain FastAPI handler, both ways in which people write it; one uvicorn worker a core.

`/def` is a `def` handler, which FastAPI runs on its threads (https://fastapi.tiangolo.com/async/); `/async` awaits the body and
then a thread, one at a time a worker, which is `run_in_threadpool` with the limit that suits a core. Workers: one a core
(https://fastapi.tiangolo.com/deployment/server-workers/).
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio.to_thread
import uvicorn
from fastapi import Depends, FastAPI, Request, Response

from loadtests.peers.model import CORES, Model


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.model = Model()
    yield


app = FastAPI(lifespan=_lifespan)
# A worker has a core, and a core does one image at a time best.
_one = anyio.CapacityLimiter(1)


async def _body(request: Request) -> bytes:
    return await request.body()


@app.post("/def")
def pose(request: Request, image: Annotated[bytes, Depends(_body)]) -> Response:
    """As everyone writes it."""
    return Response(request.app.state.model.answer([image])[0], media_type="application/json")


@app.post("/async")
async def pose_async(request: Request) -> Response:
    """The same with the threads bounded."""
    image = await request.body()
    answers = await anyio.to_thread.run_sync(request.app.state.model.answer, [image], limiter=_one)
    return Response(answers[0], media_type="application/json")


@app.get("/health")
async def health() -> str:
    """Up."""
    return "ok"


if __name__ == "__main__":
    uvicorn.run("loadtests.peers.fastapi_app:app", port=int(sys.argv[1]), workers=CORES, log_level="warning", access_log=False)
