"""The reference of the HTTP API, from the service's OpenAPI document."""

import json
from typing import Any

from jinja2 import Environment, StrictUndefined

from posewire.config import load_settings
from posewire.server.app import create_app

_METHODS = ("get", "post", "put", "patch", "delete")

_PAGE = """\
{% for path, method, operation in operations %}
### `{{ method | upper }} {{ path }}`

{{ operation.summary }}{{ "" if operation.summary.endswith(".") else "." }}

{{ operation.description | default("") }}

{% if operation.parameters %}
| Parameter | In | Type | Description |
|---|---|---|---|
{% for parameter in operation.parameters %}
| `{{ parameter.name }}` | {{ parameter["in"] }} | {{ parameter.schema | type }} | {{ parameter.description | default("") | cell }} |
{% endfor %}

{% endif %}
{% if operation.requestBody %}
| Body | Schema |
|---|---|
{% for media_type, content in operation.requestBody.content.items() %}
| `{{ media_type }}` | {{ content.schema | type }} |
{% endfor %}

{% endif %}
| Status | Answer | Schema |
|---|---|---|
{% for status, answer in operation.responses.items() %}
{% for media_type, content in (answer.content or {"": {}}).items() %}
| {{ status }} | {{ answer.description | cell }} | {{ "`%s`" % media_type if media_type else "" }} {{ content.schema | type }} |
{% endfor %}
{% endfor %}

{% endfor %}
## Schemas

{% for name, schema in schemas.items() %}
### {{ name }}

{{ schema.description | default("") }}

{% if schema.properties %}
| Field | Type | Required | Description |
|---|---|---|---|
{% for field, value in schema.properties.items() %}
| `{{ field }}` | {{ value | type }} | {{ "yes" if field in schema.required | default([]) else "no" }} | \
{{ value.description | default("") | cell }} |
{% endfor %}
{% else %}
{{ schema | type }}
{% endif %}

{% endfor %}
"""


def openapi_document() -> str:
    """Return the OpenAPI document of the service with its default settings, as JSON."""
    return json.dumps(create_app(load_settings({})).openapi())


def http_api() -> str:
    """Return Markdown: a section for each operation and each schema. Its headings begin at the third level."""
    document = json.loads(openapi_document())
    operations = [
        (path, method, _resolved(operation, document))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    # The page is Markdown, and all its values are the service's own: nothing is escaped.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters |= {"cell": _cell, "type": _type}
    return environment.from_string(_PAGE).render(operations=operations, schemas=document["components"]["schemas"])


def _resolved(operation: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return an operation whose parameters, body and answers stand in itself, not in `components`."""

    def at(value: dict[str, Any]) -> dict[str, Any]:
        found: Any = value
        if "$ref" in value:
            found = document
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step.replace("~1", "/").replace("~0", "~")]
        return dict(found)

    resolved = {"parameters": [], "requestBody": None, **operation}
    resolved["parameters"] = [{"schema": {}, **at(parameter)} for parameter in resolved["parameters"]]
    if resolved["requestBody"]:
        resolved["requestBody"] = at(resolved["requestBody"])
        resolved["requestBody"]["content"] = {k: {"schema": {}, **v} for k, v in resolved["requestBody"]["content"].items()}
    resolved["responses"] = {status: {"content": None, **at(answer)} for status, answer in resolved["responses"].items()}
    for answer in resolved["responses"].values():
        answer["content"] = {k: {"schema": {}, **v} for k, v in (answer["content"] or {"": {}}).items()}
    return resolved


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a schema in words; a schema that has a name is a link to its section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if schema["$ref"].startswith("#/components/schemas/") else name
    if parts := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(map(_type, parts))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"array of {len(schema['prefixItems'])}: " + ", ".join(_type(part) for part in schema["prefixItems"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {})) or 'any'}"
    kinds = schema.get("type", "")
    return "binary" if schema.get("format") == "binary" else " or ".join([kinds] if isinstance(kinds, str) else kinds)
