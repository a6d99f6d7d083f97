"""Calls of the API that Schemathesis makes from the service's own OpenAPI: valid ones, and ones that break the schema."""

import http.client
import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.openapi import media_type
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from loadtests.hostile import images
from loadtests.hostile.verdict import fault_of
from loadtests.wire import Target

_PATIENCE_S = 60.0
# Answers that are no result of a model: the page, its files, the metrics.
_PAGES = ("text/html", "text/plain", "text/css", "text/javascript", "application/openmetrics-text", "application/x-ndjson")
_FORMATS = ("text/csv", "application/vnd.apache.parquet", "application/xml", "application/zip")
_DAMAGED = 200
_SESSION_LINES = (
    ["v=0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=rtpmap:96 VP8/90000"],
    ["a=mid:0", "a=candidate:1 1 UDP 1 192.0.2.1 9 typ host"],
    ["v=0"] + ["m=audio 9 x 0"] * 100,
)
# A random body is no video; damaged videos are sent apart. The others have no end.
EXCLUDED = ["/v1/video", "/v1/cameras/events", "/v1/cameras/{name}/events", "/v1/cameras/{name}/live"]


def call(target: Target, calls: int, *, broken: bool, seed: int = 0) -> tuple[Counter[int], list[str]]:
    """Make so many calls; how often each status was answered, and what was wrong.

    Args:
        target: a service.
        calls: how many.
        broken: calls that break the schema; else such as keep it.
        seed: another gives other calls; the same one the same.
    """
    _know_bodies()
    schema = schemathesis.openapi.from_dict(_document(target)).exclude(path=EXCLUDED)
    mode = GenerationMode.NEGATIVE if broken else GenerationMode.POSITIVE
    session, url = requests.Session(), f"http://{target.host}:{target.port}"
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    left = count(calls, -1)

    @settings(
        max_examples=calls,
        derandomize=not seed,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema.as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        if next(left) <= 0:
            return
        try:
            response = case.call(base_url=url, session=session, timeout=_PATIENCE_S)
        except requests.RequestException as error:
            faults.append(f"{case.as_curl_command()[:500]}: {error}")
            return
        statuses[response.status_code] += 1
        kind = next(iter(response.headers.get("content-type", [""])))
        if case.method != "HEAD" and (fault := fault_of(response.status_code, kind, response.content, _PAGES + _FORMATS)):
            faults.append(f"{case.as_curl_command()[:500]}: {fault}")
            return
        faults.extend(_faults_of(lambda: case.validate_response(response, checks=[content_type_conformance, response_schema_conformance])))

    with session:
        run()
    return statuses, faults


def _faults_of(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except BaseExceptionGroup as failed:  # Schemathesis' group of failed checks
        return [f"{each}"[:500] for each in failed.exceptions]
    return []


def _document(target: Target) -> dict[str, object]:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_PATIENCE_S)
    connection.request("GET", "/openapi.json")
    document: dict[str, object] = json.load(connection.getresponse())
    connection.close()
    return document


def _know_bodies() -> None:
    """Let the bodies of images be images, whole and damaged, and offers like offers: of random bytes nothing but the first is looked at."""
    damaged = [images.mutated(number)[1] for number in range(_DAMAGED)]
    for kind in ("jpeg", "png", "webp", "bmp"):
        whole = [data for name, data in images.sources().items() if name.startswith(kind)]
        media_type(f"image/{kind}", st.sampled_from(whole) | st.sampled_from(damaged))
    for kind in ("sdp", "trickle-ice-sdpfrag"):  # no whole offers: each would open a session
        media_type(f"application/{kind}", st.binary() | st.sampled_from(_SESSION_LINES).map("\r\n".join).map(str.encode))
