"""Tables and the plot of networks; none of the networks is needed."""

from pathlib import Path

import cv2
import pytest

from loadtests.models.results import Comparison, Measured, draw, page
from loadtests.models.timing import Timing


def measured(name: str, runtime: str, ms: float, ap: float, second: float | None = None) -> Measured:
    timing = Timing(ms, ms * 0.9, ms * 1.2, ms / 2, ms / 2.1, ms / 1.9)
    return Measured(name, runtime, "128x96", 69.4, 1.68, timing, ap, {"AP50": 0.6, "AP, second look": second})


POSE = Comparison(
    "Pose networks",
    "AP",
    [measured("ours", "kernels", 2, 0.4), measured("ours", "other", 5, 0.4), measured("theirs", "other", 9, 0.5, 0.45)],
)


def test_a_table_has_a_row_a_network_and_runtime() -> None:
    head, _, *rows = POSE.table()
    assert head.startswith("| network | runtime | input | MMACs |")
    assert rows[0] == "| ours | kernels | 128x96 | 69 | 1.7 | 2.00 [1.80 2.40] | 1.00 [0.95 1.05] | 0.400 | 0.600 |  |"
    assert rows[2].endswith("| 0.500 | 0.600 | 0.450 |")


def test_the_plot_has_each_network_in_its_fastest_runtime() -> None:
    assert [(network.name, network.timing.ms) for network in POSE.fastest()] == [("ours", 2), ("theirs", 9)]


def test_a_page_has_the_plot_and_every_table() -> None:
    text = page([POSE, Comparison("Detectors", "AP", POSE.networks[:1])], ["Measured today."], "plot.png")
    assert "(plot.png)" in text
    assert text.index("Measured today.") < text.index("## Pose networks") < text.index("## Detectors")
    assert text.count("| ours | kernels |") == 2


def test_a_plot_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw([POSE, POSE], tmp_path / "plot.png")
    pixels = cv2.imread(str(tmp_path / "plot.png"))
    assert pixels is not None
    assert pixels.shape == (500, 1400, 3)
