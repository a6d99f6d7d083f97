"""Tables of JSON Schemas, in Markdown."""

from typing import Any

from jinja2 import Environment

_SECTIONS = """\
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


def schema_sections(schemas: dict[str, Any]) -> str:
    """Return Markdown: a section of the third level for each schema, by its name, with a table of its fields."""
    return templates().from_string(_SECTIONS).render(schemas=schemas)


def templates() -> Environment:
    """Return Jinja's environment with the filters `type` and `cell` for schemas and texts, and `sections`."""
    # The pages are Markdown, and all their values are the service's own: nothing is escaped.
    environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701
    environment.filters |= {"cell": _cell, "type": _type, "sections": schema_sections}
    return environment


def _cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a schema in words; a schema that has a name is a link to its section."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "/schemas/" in schema["$ref"] else name
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
