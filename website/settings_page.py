"""The page of all settings, from config.py."""

from pathlib import Path

from posewire.config import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "docs/settings.md"

_FOLDERS = {"cache_dir": "~/.cache/posewire", "state_dir": "~/.local/state/posewire"}  # the home folder differs

_HEAD = """\
# Settings

Settings are environment variables. They are read once, at the start. An empty variable means the default, and an unknown one is an error.
Options of the command line override them: see [the command line](reference/command-line.md). In Python, `PosePipeline.load` takes them by
their names in small letters, such as `flip_test=True`.

The variables that Kubernetes sets for services, such as `POSEWIRE_PORT=tcp://10.0.0.1:8000`, are ignored.

`make docs` writes this page from `service/posewire/config.py`.

| Setting | Default | What it does |
|---|---|---|
"""


def settings_page() -> str:
    """Return Markdown with a row for each setting, in the order of config.py."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = _FOLDERS.get(name, "" if field.default is None else str(field.default).lower())
        default = f"`{default}`" if default else ""
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |\n")
    return _HEAD + "".join(rows)
