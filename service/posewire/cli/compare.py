"""`posewire evaluate --compare`: print the figures of two models on the same images, and the intervals of their differences."""

import json

from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.telemetry.logs import configure_logging
from posewire.tools.evaluate.compare.comparing import CompareOptions
from posewire.tools.evaluate.compare.comparing import compare as run
from posewire.tools.evaluate.compare.text import comparison_lines


def compare(options: CompareOptions, settings: Settings, *, as_json: bool) -> int:
    """Print the figures, as JSON and nothing else if `as_json` is set.

    Raises:
        PosewireError: the data or a model cannot be used, an image fails, or the page cannot be written.
    """
    configure_logging(settings.log_level)
    comparison = run(options, settings, progress)
    if as_json:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        for line in comparison_lines(comparison):
            print(line)
    return 0
