"""Rules and dashboards, and what is made from them: `python -m monitoring` writes, `--check` only compares."""
