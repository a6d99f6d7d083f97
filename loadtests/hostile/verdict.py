"""The answers that are allowed to an input that is damaged or odd."""

import json
from collections.abc import Collection

# The service is full, is late, or has no room: it says so, and the caller may come again.
BUSY = (503, 504, 507)
_PROBLEM = "application/problem+json"
_RESULTS = ("application/json", "image/jpeg", "image/png")


def fault_of(status: int, content_type: str, body: bytes, also: Collection[str] = ()) -> str | None:
    """The fault of an answer; None: it is a result, or a problem that is not the service's fault.

    Args:
        status: of the answer.
        content_type: of the answer.
        body: the whole of it.
        also: media types that are results as well.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if status == 200:
        if kind == "application/x-ndjson":
            return _fault_of_lines(body)
        return None if kind in (*_RESULTS, *also) else f"200 with {kind or 'no media type'}"
    if not 400 <= status < 500 and status not in BUSY:
        return f"{status}: {body[:300]!r}"
    if kind != _PROBLEM:
        return f"{status} with {kind or 'no media type'}, not {_PROBLEM}: {body[:300]!r}"
    return _fault_of_problem(status, body)


def _fault_of_problem(status: int, body: bytes) -> str | None:
    try:
        problem = json.loads(body)
    except ValueError:
        return f"{status} with a problem that is no JSON: {body[:300]!r}"
    if not {"type", "title", "status", "detail"} <= set(problem) or problem["status"] != status:
        return f"{status} with a problem that is not whole: {problem}"
    return None


def _fault_of_lines(body: bytes) -> str | None:
    """Of a video's answer: its last line is its end, or an error that is the video's or the service's being busy."""
    try:
        last = json.loads(body.splitlines()[-1])
    except (IndexError, ValueError):
        return f"200 whose lines are cut off: {body[-300:]!r}"
    if last.get("type") == "end":
        return None
    problem = last.get("problem", {})
    status = problem.get("status", 0)
    return None if last.get("type") == "error" and (400 <= status < 500 or status in BUSY) else f"200 whose last line is {last}"
