"""What a release says of itself and no program can know: a TOML file by whoever trained."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from posewire.errors import ModelError
from posewire.registry.specs import Entry, Text


class About(Entry):
    """Every text goes into the card; the first five into the manifest too."""

    title: Text  # one line
    licence: Text  # one line
    made_by: Text
    data: Text  # what was trained on, with its licences
    recipe: Text
    limits: Text  # Markdown: what works, what fails
    terms: Text  # Markdown: the licence in full, and what follows from the data's


def read_about(path: Path) -> About:
    """Read the file.

    Raises:
        ModelError: it cannot be read, is not TOML, or a text is missing, empty or unknown; one line.
    """
    try:
        with path.open("rb") as handle:
            return About.model_validate(tomllib.load(handle))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].lower()}" for fault in error.errors())
        raise ModelError(f"{path}: {faults}; it needs {', '.join(About.model_fields)}") from None
    except ValueError as error:  # TOMLDecodeError, or bytes that are not UTF-8
        raise ModelError(f"{path} is not valid TOML: {error}") from None
