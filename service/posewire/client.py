"""Clients of a Posewire service.

    with PoseClient("http://127.0.0.1:8000") as client:
        [picture] = client.pose(Path("street.jpg")).images

    async with AsyncPoseClient("http://127.0.0.1:8000") as client, client.stream() as stream:
        async for result in stream.results(frames):
            ...

Errors are those of `posewire.errors`, made again from the service's answers: what the service would raise, the client
raises.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import ValidationError

from posewire.client_stream import PoseStream, StreamResult
from posewire.errors import ServiceError, UnexpectedAnswer, error_of
from posewire.schemas import Box, PoseResponse
from posewire.stream_schemas import StartMessage
