"""The name of the data channel."""

from typing import Final

LABEL: Final = "posewire"
