"""The interface by which a tool reports its progress."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

# Takes a total and a label. The block gets a function to call when one more is done.
Progress: TypeAlias = Callable[[int, str], AbstractContextManager[Callable[[], None]]]
