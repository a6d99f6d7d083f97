"""Calls that Schemathesis makes from the service's own OpenAPI."""

import pytest

from loadtests.hostile import calls
from tests.hostile.conftest import Service

COUNT = 50


@pytest.mark.parametrize("broken", [False, True], ids=["valid", "broken"])
def test_every_call_is_answered_as_the_document_says(service: Service, broken: bool) -> None:
    statuses, faults = calls.call(service.target, COUNT, broken=broken)
    assert faults == []
    assert statuses.total() > COUNT / 2
    assert statuses[422 if broken else 200] > 5
