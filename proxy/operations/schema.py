"""Checks a request against the schemas of the table; what does not fit is told by field, never by value.

The part of JSON Schema 2020-12 that ``fields`` uses. A library would give its own sentences, which repeat the
value, and a value here may be a token; the tests hold this against one.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from proxy.catalog.reader import nearest
from proxy.errors import Fault
from proxy.operations.operation import Schema


def faults_of(schema: Schema, value: object, place: str) -> list[Fault]:
    """Everything about a value that the schema does not allow; ``place`` names it."""
    return list(_faults(schema, value, place))


def _faults(schema: Schema, value: object, place: str) -> Iterator[Fault]:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = next((one for one in kinds if _KINDS[one](value)), None)
    if kind is None:
        yield Fault(place, f"has to be {' or '.join(_WORDS[one] for one in kinds)}")
    elif "enum" in schema and value not in schema["enum"]:
        yield Fault(place, f"has to be one of {', '.join(map(str, schema['enum']))}")
    elif kind in _CHECKS:
        yield from _CHECKS[kind](schema, value, place)


def _text(schema: Schema, value: Any, place: str) -> Iterator[Fault]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if not least <= len(value) <= most:
        yield Fault(place, f"has to have {least} to {most} characters")
    elif not _is_unicode(value) or ("pattern" in schema and not _matches(schema["pattern"], value)):
        yield Fault(place, f"has to be: {schema.get('description', 'a text')}")


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _matches(pattern: str, value: str) -> bool:
    """Our patterns are anchored at both ends; ``$`` of Python would let a line feed pass."""
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=128)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.removeprefix("^").removesuffix("$"))


def _number(schema: Schema, value: Any, place: str) -> Iterator[Fault]:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if not least <= value <= most:
        yield Fault(place, f"has to be {least} to {most}")


def _list(schema: Schema, value: Any, place: str) -> Iterator[Fault]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not least <= len(value) <= most:
        wanted = f"has to have {least} to {most} entries"
        yield Fault(place, wanted if value else f"has to be: {schema.get('description', 'not empty')}")
        return
    for at, one in enumerate(value):
        yield from _faults(schema["items"], one, f"{place}[{at}]")


def _object(schema: Schema, value: Any, place: str) -> Iterator[Fault]:
    known: Mapping[str, Schema] = schema.get("properties", {})
    below = f"{place}." if place else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield Fault(f"{below}{name}", "is missing")
    if len(value) > schema.get("maxProperties", math.inf):
        yield Fault(place, f"has to have at most {schema['maxProperties']} members")
        return
    rest = schema.get("additionalProperties", True)
    for name, one in value.items():
        if name in known:
            yield from _faults(known[name], one, f"{below}{name}")
        elif rest is False:
            yield Fault(f"{below}{_shown(name)}", f"is not known here{nearest(name[:60], known)}")
        elif isinstance(rest, Mapping):
            yield from _faults(rest, one, f"{below}{_shown(name)}")


def _shown(name: str) -> str:
    return name[:60].encode("unicode_escape").decode()


_KINDS: Mapping[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
    "null": lambda value: value is None,
}
_WORDS: Mapping[str, str] = {
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_CHECKS: Mapping[str, Callable[[Schema, Any, str], Iterator[Fault]]] = {
    "string": _text,
    "integer": _number,
    "array": _list,
    "object": _object,
}
