import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from posewire.telemetry.logs import configure_logging, request_id_var, trace_id_var

UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a test does to the process's loggers."""
    loggers = [logging.getLogger(name) for name in (None, *UVICORN)]
    before = [(logger, logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", stream)
    return stream


def alone() -> io.StringIO:
    """The stream of a root logger with no handler of pytest's, which raises where ours must not."""
    stream = io.StringIO()
    logging.getLogger().handlers.clear()
    configure_logging("info", stream)
    return stream


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line as strict JSON; what breaks a line for any reader breaks one here."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def only(stream: io.StringIO) -> dict[str, Any]:
    (entry,) = entries(stream)
    return entry


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_a_record_says_when_how_grave_who_and_what(stream: io.StringIO) -> None:
    logging.getLogger("posewire.server.app").warning("%d models are warm", 2)
    entry = only(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("ts"))
    assert entry == {"level": "warning", "logger": "posewire.server.app", "message": "2 models are warm"}


def test_the_time_is_utc(stream: io.StringIO) -> None:
    record = logging.makeLogRecord({"name": "x", "levelno": logging.INFO, "levelname": "INFO", "msg": "m", "created": 1700000000.25})
    logging.getLogger("x").handle(record)
    assert only(stream)["ts"] == "2023-11-14T22:13:20.250Z"


def test_the_request_and_trace_ids_come_from_the_context_and_only_there(stream: io.StringIO) -> None:
    def serve() -> None:
        request_id_var.set("abc-123")
        trace_id_var.set("0af7651916cd43dd8448eb211c80319c")
        logging.getLogger("x").info("inside")

    copy_context().run(serve)
    logging.getLogger("x").info("outside")
    inside, outside = entries(stream)
    assert inside["request_id"] == "abc-123"
    assert inside["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert not {"request_id", "trace_id"} & outside.keys()


def test_extra_fields_are_kept_and_what_json_lacks_becomes_text(stream: io.StringIO) -> None:
    extra = {
        "people": 3,
        "ok": True,
        "nothing": None,
        "seconds": 0.25,
        "bad": float("nan"),
        "far": [1, float("-inf")],
        "path": Path("/tmp/x"),
        "nested": {1: {"a": (1, {2}, b"\xff")}},
        "weird": Unprintable(),
        "lone": "\ud800",
    }
    logging.getLogger("x").info("m", extra=extra)
    entry = only(stream)
    assert {k: entry[k] for k in ("people", "ok", "nothing", "seconds")} == {"people": 3, "ok": True, "nothing": None, "seconds": 0.25}
    assert entry["bad"] == "nan"
    assert entry["far"] == [1, "-inf"]
    assert entry["path"] == "/tmp/x"
    assert entry["nested"] == {"1": {"a": [1, "{2}", r"b'\xff'"]}}
    assert "Unprintable" in entry["weird"]
    assert entry["lone"] == "\ud800"


def test_an_extra_field_cannot_pose_as_ours(stream: io.StringIO) -> None:
    logging.getLogger("x").info("m", extra={"level": "critical", "ts": 0, "logger": "y"})
    entry = only(stream)
    assert (entry["level"], entry["logger"]) == ("info", "x")
    assert (entry["extra_level"], entry["extra_ts"], entry["extra_logger"]) == ("critical", 0, "y")


def test_an_endless_value_ends(stream: io.StringIO) -> None:
    loop: list[object] = []
    loop.append(loop)
    logging.getLogger("x").info("m", extra={"loop": loop})
    entry = only(stream)
    assert entry["message"] == "m"
    assert "..." in json.dumps(entry["loop"])


def test_what_cannot_be_written_at_all_is_told(stream: io.StringIO) -> None:
    logging.getLogger("x").info("m", extra={"number": 10**5000})
    entry = only(stream)
    assert entry["message"] == "m"
    assert "digits" in entry["log_error"]


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\x00\x1b[31mb", "a\u2028b", "a\x85b", "a\x0bb\x0c", '{"level": "fake"}\n{}', "ü\U0001f600"]
)
def test_no_text_makes_a_second_line(stream: io.StringIO, text: str) -> None:
    logging.getLogger("x").info(text, extra={"field": text, text: 1})
    entry = only(stream)
    assert entry["message"] == entry["field"] == text
    assert entry[text] == 1
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("message", "args", "kept"),
    [
        ("%d people", ("many",), "many"),
        ("%s and %s", ("one",), "one"),
        ("none", ("left over",), "left over"),
        ("%s", (Unprintable(),), "%s"),
    ],
)
def test_bad_arguments_still_make_a_record(message: str, args: tuple[object, ...], kept: str) -> None:
    stream = alone()
    logging.getLogger("x").info(message, *args)
    assert message in only(stream)["message"]
    assert kept in only(stream)["message"]


def test_a_message_that_has_no_text_still_makes_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    stream = alone()
    logging.getLogger("x").error(Unprintable())
    assert "Unprintable" in only(stream)["message"]
    assert capsys.readouterr().err == ""


def test_an_exception_is_one_field(stream: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    entry = only(stream)
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: first\nsecond")


def test_no_exception_at_hand_is_no_field(stream: io.StringIO) -> None:
    logging.getLogger("x").error("calm", exc_info=True)
    assert "exception" not in only(stream)


def test_a_stack_is_one_field(stream: io.StringIO) -> None:
    logging.getLogger("x").info("here", stack_info=True)
    assert "test_a_stack_is_one_field" in only(stream)["stack"]


@pytest.mark.parametrize("level", ["warning", "WARNING", logging.WARNING])
def test_below_the_level_nothing_is_said(level: str | int) -> None:
    stream = io.StringIO()
    configure_logging(level, stream)
    logging.getLogger("x").info("quiet")
    logging.getLogger("uvicorn.access").info("quiet")
    logging.getLogger("x").warning("loud")
    assert only(stream)["message"] == "loud"


def test_a_second_call_replaces_the_first(stream: io.StringIO) -> None:
    second = io.StringIO()
    configure_logging("info", second)
    configure_logging("debug", second)
    logging.getLogger("x").debug("once")
    assert entries(stream) == []
    assert only(second)["message"] == "once"


def test_what_basic_config_installed_says_nothing_more() -> None:
    plain, stream = io.StringIO(), io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(plain))
    configure_logging("info", stream)
    logging.getLogger("x").info("once")
    assert plain.getvalue() == ""
    assert only(stream)["message"] == "once"


def test_uvicorn_speaks_json_once(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()

    async def app(scope: object, receive: object, send: object) -> None: ...

    uvicorn.Config(app, log_level="error")  # installs uvicorn's own handlers and level
    configure_logging("info", stream)
    uvicorn.Config(app, log_config=None)
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[36mStarted"})
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/livez", "1.1", 200)
    started, access = entries(stream)
    assert started["message"] == "Started"
    assert "color_message" not in started
    assert (access["logger"], access["message"]) == ("uvicorn.access", '127.0.0.1:1 - "GET /livez HTTP/1.1" 200')
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_standard_error_is_where_logs_go_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("x").info("to stderr")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["message"] == "to stderr"
