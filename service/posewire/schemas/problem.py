"""The JSON of errors over HTTP: `application/problem+json` (RFC 9457)."""

from pydantic import Field
from pydantic.config import JsonDict
from pydantic.json_schema import SkipJsonSchema

from posewire.schemas.stream import StreamProblem


def _without_default(schema: JsonDict) -> None:
    """Remove the default: a field that is left out is not null."""
    del schema["default"]


class Problem(StreamProblem):
    """An error: what is wrong, and what to do."""

    image: int | SkipJsonSchema[None] = Field(
        None, description="Index of the image at fault, if the request has several.", json_schema_extra=_without_default
    )
    request_id: str | SkipJsonSchema[None] = Field(
        None, description="The same as the header X-Request-Id.", json_schema_extra=_without_default
    )
