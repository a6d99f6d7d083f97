"""Structured logs: one JSON object a line, whatever is logged."""

import json
import logging
import math
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

# The id of the request that the running task serves; None outside of requests.
request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)
# The trace that the caller's W3C traceparent names; None: it sent none.
trace_id_var: ContextVar[str | None] = ContextVar("trace_id", default=None)

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")
# What a record carries without `extra=`; `color_message` is uvicorn's message again, with terminal colours.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MAX_DEPTH = 6
# ASCII: U+2028 and its like break lines too, and any stream can encode it. `json.dumps` would make an encoder a line.
_JSON = json.JSONEncoder(allow_nan=False)


def configure_logging(level: str | int, stream: TextIO | None = None) -> None:
    """Send every log record of the process to one stream, one JSON object a line.

    uvicorn's loggers lose their own handlers and go the same way; start uvicorn with `log_config=None`, or it puts its
    handlers back. Calling again replaces level and stream.

    Args:
        level: a name of the logging module in any case, or its number.
        stream: where to; None: standard error as it is now.
    """
    # Nobody reads these, and every record would ask the system for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        # A plain StreamHandler is what logging.basicConfig leaves: it would say everything twice.
        if isinstance(old.formatter, JsonFormatter) or type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for name in _UVICORN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


class JsonFormatter(logging.Formatter):
    """A record as one line of ASCII JSON: ts, level, logger, message, then what else there is."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; never raises."""
        try:
            return _JSON.encode(self._entry(record))
        except Exception as error:  # a log call must not fail the work that it tells of
            entry = _head(record) | {"message": _text(record.msg), "log_error": _text(error)}
            return json.dumps(entry)

    def _entry(self, record: logging.LogRecord) -> dict[str, object]:
        entry = _head(record) | {"message": _message(record)}
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        for key, value in extras.items():
            entry[f"extra_{key}" if key in entry else key] = _plain(value)
        return entry


def _head(record: logging.LogRecord) -> dict[str, object]:
    """When, how grave, who, and for which request and trace."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head: dict[str, object] = {"ts": moment.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}
    if request_id := request_id_var.get():
        head["request_id"] = request_id
    if trace_id := trace_id_var.get():
        head["trace_id"] = trace_id
    return head


def _message(record: logging.LogRecord) -> str:
    """The message with its arguments; side by side where they do not fit."""
    try:
        return record.getMessage()
    except Exception:
        return f"{_text(record.msg)} {_text(record.args)}"


def _plain(value: object, depth: int = 0) -> object:
    """A value as JSON can carry it: what it cannot, or is nested too deep, as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _text(value: object) -> str:
    """str(), of objects too whose own __str__ raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be printed>"
