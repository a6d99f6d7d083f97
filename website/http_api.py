"""The reference of the HTTP API, from the service's OpenAPI document."""

import json
from typing import Any

from posewire.config import load_settings
from posewire.server.app import create_app
from website.schemas import templates

_METHODS = ("get", "post", "put", "patch", "delete")

_PAGE = """\
{% for path, method, operation in operations %}
### `{{ method | upper }} {{ path }}`

{{ operation.summary | default("") }}

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

{{ schemas | sections }}
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
    return templates().from_string(_PAGE).render(operations=operations, schemas=document["components"]["schemas"])


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
