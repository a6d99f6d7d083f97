"""Structured logs: one JSON object per line."""

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
# The trace id of the caller's W3C traceparent; None: the caller sent none.
trace_id_var: ContextVar[str | None] = ContextVar("trace_id", default=None)

_UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")
# The attributes of a record without `extra=`; `color_message` is uvicorn's message again, with terminal colours.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_MAX_DEPTH = 6
# ASCII: any stream can encode it, and it has no line breaks such as U+2028. `json.dumps` would create an encoder per line.
_JSON = json.JSONEncoder(allow_nan=False)


def configure_logging(level: str | int, stream: TextIO | None = None) -> None:
    """Send every log record of the process to one stream, one JSON object per line.

    uvicorn's own handlers are removed. Start uvicorn with `log_config=None`, or it adds them again. A second call replaces
    level and stream.

    Args:
        level: a name of the logging module in any case, or its number.
        stream: the target; None: standard error as it is now.
    """
    # The lines do not show these, and every record would ask the system for them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        # logging.basicConfig adds a plain StreamHandler, which would write every record a second time.
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
    """Formats a record as one line of ASCII JSON: ts, level, logger, message, then the other fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line break; never raises."""
        try:
            return _JSON.encode(self._entry(record))
        except Exception as error:  # a log call must not break the work that it describes
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
    """Return time, level, logger, and the ids of request and trace."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head: dict[str, object] = {"ts": moment.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name}
    if request_id := request_id_var.get():
        head["request_id"] = request_id
    if trace_id := trace_id_var.get():
        head["trace_id"] = trace_id
    return head


def _message(record: logging.LogRecord) -> str:
    """Return the message with its arguments; if they do not fit, return both texts one after the other."""
    try:
        return record.getMessage()
    except Exception:
        return f"{_text(record.msg)} {_text(record.args)}"


def _plain(value: object, depth: int = 0) -> object:
    """Return a value that JSON can hold; other values, and values nested too deep, become text."""
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
    """Return str(value); works also if the value's __str__ raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be printed>"
