"""A model's entry in the text of a manifest, whose comments and order stay."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import tomlkit

from posewire.errors import ModelError
from posewire.registry.specs import Task

_NEW: Final = "# Models that are served beside those that ship with Posewire (POSEWIRE_MODEL_STORE). Paths are relative to this file.\n"
_HEADER: Final = re.compile(r"^\[\[?([A-Za-z_-]+)([^\]]*)\]\]?", re.MULTILINE)


def with_model(text: str | None, entry: Mapping[str, Any], *, default: bool) -> str:
    """The text of a manifest with a model in place of the one of its name, else after the others.

    Args:
        text: of the manifest; None: there is none yet.
        entry: as in `[[models]]`.
        default: whether the model is to serve when the settings name none.

    Raises:
        ModelError: the manifest is written in a way that this cannot edit, or has no defaults to change.
    """
    before = _NEW if text is None else text
    wanted = tomllib.loads(before)
    models = wanted.setdefault("models", [])
    names = [model.get("name") for model in models]
    block = _block(entry)
    starts, ends = _blocks(before)
    if entry["name"] in names and len(starts) == len(names):
        index = names.index(entry["name"])
        models[index] = dict(entry)
        after = before[: starts[index]] + block + before[ends[index] :]
    else:
        models.append(dict(entry))
        at = ends[-1] if ends else len(before)
        after = before[:at].rstrip("\n") + "\n\n" + block + before[at:]
    if default:
        if "defaults" not in wanted:
            raise ModelError("this manifest has no [defaults], so nothing in it can serve by default: leave --default out")
        wanted["defaults"][entry["task"]] = entry["name"]
        document = tomlkit.parse(after)
        document["defaults"][entry["task"]] = entry["name"]
        after = tomlkit.dumps(document)
    if _parsed(after) != wanted:
        raise ModelError("the manifest's [[models]] are not written one after the other as tables: put the entry in by hand")
    return after


def baseline(text: str | None, task: Task, name: str) -> str | None:
    """The model that a new one has to beat: the default for its task, else the one of its name; None: there is none.

    Raises:
        ModelError: the name is that of a model for another task.
    """
    content = tomllib.loads(text or "")
    tasks = {model.get("name"): model.get("task") for model in content.get("models", [])}
    if tasks.get(name, task) != task:
        raise ModelError(f"{name} is a model for the task {tasks[name]}; give the new one another name")
    default = content.get("defaults", {}).get(task)
    return default or (name if name in tasks else None)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _block(entry: Mapping[str, Any]) -> str:
    """The entry as TOML, in its own order."""
    table = tomlkit.table()
    for key, value in entry.items():
        table.append(key, value)
    models = tomlkit.aot()
    models.append(table)
    document = tomlkit.document()
    document.append("models", models)
    return tomlkit.dumps(document).strip() + "\n"


def _blocks(text: str) -> tuple[list[int], list[int]]:
    """Where each `[[models]]` begins and ends; comments above a header belong to what they are above."""
    headers = [(match.start(), match[1], match[0] == "[[models]]") for match in _HEADER.finditer(text)]
    starts = [at for at, _, begins in headers if begins]
    ends = []
    for start in starts:
        following = (at for at, first, begins in headers if at > start and (begins or first != "models"))
        end = next(following, len(text))
        ends.append(start + len(re.sub(r"(\n([ \t]*|#[^\n]*))*\Z", "", text[start:end])) + 1 if end < len(text) else end)
    return starts, ends
