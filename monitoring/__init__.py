"""Rules and dashboards, and the files made from them: `python -m monitoring` writes the files, `--check` only compares."""
