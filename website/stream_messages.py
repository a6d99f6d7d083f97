"""The reference of the stream's messages, from the schemas of the service."""

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from posewire.schemas.stream import AckMessage, ErrorMessage, ResultMessage, StartedMessage, StartMessage
from website.schemas import schema_sections

_MESSAGES: list[tuple[type[BaseModel], JsonSchemaMode]] = [
    (StartMessage, "validation"),  # the client sends the first two, and the service the others
    (AckMessage, "validation"),
    (StartedMessage, "serialization"),
    (ResultMessage, "serialization"),
    (ErrorMessage, "serialization"),
]


def stream_messages() -> str:
    """Return Markdown: a section of the third level for each message, and for each schema in it."""
    _, schema = models_json_schema(_MESSAGES, ref_template="#/schemas/{model}")
    return schema_sections(schema["$defs"])
