"""Results as they are printed and saved."""

import json
from pathlib import Path

import pytest

from loadtests.report import Plot, Result, machine, markdown, save, table

WHERE = {"command": "python -m loadtests single", "commit": "abc", "when": "now", "cores": 2, "cpu": "C", "python": "3", "onnxruntime": "1"}


@pytest.fixture
def result() -> Result:
    return Result("single", "One.", tables={"Load": [{"a": 1, "b": None}, {"a": 2, "b": 0.5}]}, checks={"fast": True, "flat": False})


def test_a_table_has_a_line_a_row() -> None:
    assert table([{"a": 1, "b": None}]) == ["| a | b |", "|---|---|", "| 1 |  |"]
    assert table([]) == []


def test_a_report_says_what_was_not_kept_and_how_it_was_made(result: Result) -> None:
    page = markdown(result, WHERE, ["plot.png"])
    assert "- held: fast" in page
    assert "- **NOT HELD**: flat" in page
    assert "`python -m loadtests single` at abc" in page
    assert "| 2 | 0.5 |" in page
    assert "![plot.png](plot.png)" in page
    assert not result.passed


def test_machine_and_command_are_saved(result: Result, tmp_path: Path) -> None:
    report = save(result, tmp_path / "new", machine())
    saved = json.loads((tmp_path / "new" / "result.json").read_text())
    assert report.read_text().startswith("# single")
    assert saved["machine"].keys() == machine().keys()
    assert saved["machine"]["cores"] >= 1
    assert saved["tables"] == result.tables
    assert saved["passed"] is False


def test_a_plot_is_drawn_beside_the_report(result: Result, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result.plots = [Plot("some line", "s", "ms", {"200": ([0, 1, 2], [1.0, 3.0, 2.0])})]
    assert "![some-line.png](some-line.png)" in save(result, tmp_path, WHERE).read_text()
    assert (tmp_path / "some-line.png").read_bytes().startswith(b"\x89PNG")
