"""Pieces of schemas (JSON Schema 2020-12, the part that ``schema`` checks)."""

from collections.abc import Mapping
from types import MappingProxyType

from proxy.operations.operation import Schema

Properties = Mapping[str, Schema]
_VISIBLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"  # no control characters, nothing that a store cannot keep
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_SERVICE = r"^[a-z0-9_]{1,40}$"
_ADDRESS = r"^[a-z0-9_]{1,40}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$"
_REGISTRATION = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
_PRINTABLE = r"^[ -~]+$"


def text(says: str, *, most: int = 200, least: int = 0, pattern: str = _VISIBLE) -> Schema:
    """A text without control characters. ``says``: what it is, which a refusal repeats."""
    schema = {"type": "string", "description": says, "maxLength": most, "pattern": pattern}
    return schema | ({"minLength": least} if least else {})


def chosen(says: str, *values: str) -> Schema:
    """One of some texts."""
    return {"type": "string", "description": says, "enum": list(values)}


def flag(says: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": says}


def whole(says: str, *, least: int, most: int) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": says, "minimum": least, "maximum": most}


def several(item: Schema, says: str, *, least: int = 0, most: int = 200) -> Schema:
    """A list."""
    return {"type": "array", "description": says, "items": item, "minItems": least, "maxItems": most}


def texts_by_name(says: str, *, most: int = 50) -> Schema:
    """An object of texts with any names."""
    value = text("A value.", most=2000)
    return {"type": "object", "description": says, "additionalProperties": value, "maxProperties": most}


def given(properties: Properties, *required: str) -> Schema:
    """An object in a request: nothing but these, of which some must be there."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def told(properties: Properties) -> Schema:
    """An object in an answer: all of these are there; later releases may add others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def maybe(schema: Schema) -> Schema:
    """The same, or null. For one with a plain type."""
    changed = {**schema, "type": [schema["type"], "null"]}
    return changed | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "integer"}
STRINGS: Schema = {"type": "array", "items": STRING}
TIME: Schema = {"type": "string", "format": "date-time"}
MAYBE_STRING, MAYBE_TIME = maybe(STRING), maybe(TIME)
TEXTS: Schema = {"type": "object", "additionalProperties": STRING}

KEY_NAME = text("1 to 63 letters, digits, '_', '.' and '-'", most=63, pattern=_NAME)
SERVICE = text("A service's id: up to 40 lower-case letters, digits and '_'", most=40, pattern=_SERVICE)
CONNECTION_NAME = text(
    "Up to 63 letters, digits, '_', '.', '-', beginning with a letter or digit", most=63, pattern=_NAME
)
REGISTRATION = text(
    "A registration's id: up to 63 lower-case letters, digits, '_', '.', '-'",
    most=63,
    pattern=_REGISTRATION,
)
USER_NAME = text(
    "Up to 63 of a-z, 0-9, '.', '_', '@', '+', '-'", most=63, pattern=r"^[a-z0-9][a-z0-9._@+-]{0,62}$"
)
MOMENT = text(
    "30d, 12h, 15m or a time with offset (RFC 3339)",
    most=40,
    pattern=r"^([1-9][0-9]{0,8}[smhdw]|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2}))$",
)
SCOPE = text("A scope (RFC 6749 section 3.3)", most=500, least=1, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")
PRINTABLE = text("Printable ASCII", most=4096, least=1, pattern=_PRINTABLE)
TOKEN = text("A token: printable ASCII", most=65536, least=1, pattern=_PRINTABLE)

PATH: Properties = MappingProxyType(
    {
        "service": SERVICE,
        "connection": text("SERVICE@NAME, or SERVICE for its default connection", most=104, pattern=_ADDRESS),
        "registration": REGISTRATION,
        "key": text("A key's id or name", most=63, pattern=_NAME),
        "token": text("A token's id or name", most=63, pattern=_NAME),
        "user": USER_NAME,
        "flow": text("A flow's id: 24 hexadecimal digits", most=24, pattern=r"^[0-9a-f]{24}$"),
    }
)
"""What stands in paths, by its name in braces."""

ONE_BY_ONE = MappingProxyType(
    {
        "limit": whole("How many at most", least=1, most=1000),
        "cursor": text("next of the page before", most=500, least=1, pattern=r"^[A-Za-z0-9_-]+$"),
    }
)
"""Query parameters of lists."""


def page_of(schema: Schema) -> Schema:
    """A page of a list."""
    items = {"type": "array", "items": schema}
    return told({"items": items, "next": {**MAYBE_STRING, "description": "The next page's cursor, or null"}})
