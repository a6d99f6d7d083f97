"""TOML files that are checked before anything is done with them."""

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from posewire.errors import PosewireError


class Table(BaseModel):
    """A table of a file: it knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Content = TypeVar("Content", bound=Table)


def load(path: Path, kind: type[Content]) -> Content:
    """Read a file.

    Raises:
        PosewireError: it cannot be read, is not TOML, or a value is missing, unknown or wrong. The message is one line a fault: the
            file, the key, what is wrong.
    """
    try:
        with path.open("rb") as handle:
            return kind.model_validate(tomllib.load(handle))
    except OSError as error:
        raise PosewireError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(map(str, fault['loc'])) or 'the file'}: {_tell(fault['type'], fault['msg'])}" for fault in error.errors()
        ]
        raise PosewireError("\n".join(faults)) from None
    except ValueError as error:  # TOMLDecodeError, or bytes that are not UTF-8
        raise PosewireError(f"{path} is not valid TOML: {error}") from None


def _tell(kind: str, message: str) -> str:
    """What is wrong; pydantic's word for an unknown key does not say that it is one."""
    return "there is no such key" if kind == "extra_forbidden" else message[:1].lower() + message[1:]
