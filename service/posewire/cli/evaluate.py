"""`posewire evaluate`: print COCO AP and the errors in detail, of the engine here or of a service elsewhere."""

import json

from posewire.cli.progress import progress
from posewire.config import Settings
from posewire.telemetry.logs import configure_logging
from posewire.tools.evaluate.evaluating import EvaluateOptions
from posewire.tools.evaluate.evaluating import evaluate as run
from posewire.tools.evaluate.text import lines


def evaluate(options: EvaluateOptions, settings: Settings, *, as_json: bool) -> int:
    """Print the figures, as JSON and nothing else if `as_json` is set.

    Raises:
        PosewireError: the data cannot be read, an image fails, the service does not answer, or the page cannot be written.
    """
    configure_logging(settings.log_level)
    evaluation = run(options, settings, progress)
    if as_json:
        print(json.dumps(evaluation.as_json(), indent=2))
    else:
        for line in lines(evaluation.summary, evaluation.runs):
            print(line)
    return 0
