"""The reference of the stream's messages, from the schemas of the service."""

from pydantic.json_schema import models_json_schema

from posewire.schemas.stream import AckMessage, ErrorMessage, ResultMessage, StartedMessage, StartMessage
from website.schemas import schema_sections

_CLIENT = (StartMessage, AckMessage)
_SERVICE = (StartedMessage, ResultMessage, ErrorMessage)


def stream_messages() -> str:
    """Return Markdown: a section of the third level for each message, and for each schema in it."""
    sent = [(model, "validation") for model in _CLIENT] + [(model, "serialization") for model in _SERVICE]
    _, schema = models_json_schema(sent, ref_template="#/schemas/{model}")
    return schema_sections(schema["$defs"])
