"""Print the JSON Schema of everything that the npm package sends and receives, and the errors of the service.

python npm/scripts/schemas.py | node npm/scripts/messages.mjs > npm/src/messages.ts
"""

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from posewire.client.answers import BY_CLOSE_CODE, FINAL
from posewire.errors import service_errors
from posewire.schemas.pose import CocoPerson, ModelsResponse, PoseResponse
from posewire.schemas.stream import AckMessage, ErrorMessage, ResultMessage, StartedMessage, StartMessage

SENT = (StartMessage, AckMessage)
RECEIVED = (StartedMessage, ResultMessage, ErrorMessage, PoseResponse, CocoPerson, ModelsResponse)


def schemas() -> dict[str, Any]:
    """Return one schema whose `definitions` are the messages and the problem types, and whose `x-closes` are the close codes.

    Field titles are left out, since json-schema-to-typescript would make a type of each. Tuples are written as it reads them.
    """
    models = [*((model, "validation") for model in SENT), *((model, "serialization") for model in RECEIVED)]
    _, schema = models_json_schema(models, ref_template="#/definitions/{model}")  # type: ignore[arg-type] # a list of tuples is invariant
    definitions = {name: _plain(definition) for name, definition in schema["$defs"].items()}
    for name in definitions.keys() - {model.__name__ for model in SENT}:
        definitions[name]["required"] = list(definitions[name]["properties"])  # the service sends every field
    definitions["ProblemType"] = {
        "description": "The last part of a problem's `type`, `urn:posewire:problem:…`.",
        "enum": sorted({kind.slug for kind in service_errors()}),
    }
    closes = {code: {"type": kind.slug, "final": issubclass(kind, FINAL)} for code, kind in sorted(BY_CLOSE_CODE.items())}
    return {"title": "Messages", "type": "object", "additionalProperties": False, "definitions": definitions, "x-closes": closes}


def _plain(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {name for name in ("title", "prefixItems") if isinstance(schema.get(name), str | list)}  # a field may have such a name
    plain = {name: _plain(value) for name, value in schema.items() if name not in dropped}
    if "prefixItems" in schema:
        plain["items"] = _plain(schema["prefixItems"])
    return plain


if __name__ == "__main__":
    print(json.dumps(schemas(), indent=2))  # noqa: T201 - it is a command
