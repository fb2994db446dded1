"""Where the members and elements of a JSON text stand (RFC 8259), for changing some and keeping the rest.

The standard library's scanner finds where values end; its leniencies (NaN, names given twice) are taken back.
"""

import json
import re
from typing import Any, NamedTuple, NoReturn

from proxy.errors import BadRequest

_BLANK = re.compile(r"[ \t\r\n]*")
_NOT_JSON = "the body is not well-formed JSON"


class Number:
    """Stands for any number: none is read, so none can lose digits."""


class Member(NamedTuple):
    """One member of an object: ``start`` to ``end`` with the blanks around, ``at`` to ``after`` its value."""

    name: str
    value: Any
    start: int
    end: int
    at: int
    after: int


class Element(NamedTuple):
    """One element of an array, from ``at`` to ``after``."""

    value: Any
    at: int
    after: int


def _refuse(_: str) -> NoReturn:
    raise ValueError(_NOT_JSON)


def _number(_: str) -> type[Number]:
    return Number


_SCANNER = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse)


def text_of(body: bytes) -> str:
    """The text of a JSON body.

    Raises:
        BadRequest: it is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None


def skip(text: str, at: int) -> int:
    """The first place from ``at`` on that is no blank."""
    found = _BLANK.match(text, at)
    return at if found is None else found.end()


def members(text: str, at: int) -> tuple[tuple[Member, ...], int]:
    """The members of the object that begins at ``at``, and what stands behind it.

    Raises:
        BadRequest: there is none, it is not well-formed, or a name stands in it twice.
    """
    if text[at : at + 1] != "{":
        raise BadRequest("an object is missing where one has to stand")
    found: list[Member] = []
    at += 1
    if text[skip(text, at) : skip(text, at) + 1] == "}":
        return (), skip(text, at) + 1
    while True:
        start = at
        name, after = _value(text, skip(text, at))
        colon = skip(text, after)
        if not isinstance(name, str) or text[colon : colon + 1] != ":":
            raise BadRequest(_NOT_JSON)
        at = skip(text, colon + 1)
        value, after = _value(text, at)
        end = skip(text, after)
        found.append(Member(name, value, start, end, at, after))
        if text[end : end + 1] == "}":
            break
        at = _behind_comma(text, end)
    if len({member.name.lower() for member in found}) < len(found):
        raise BadRequest("a name stands twice in an object")
    return tuple(found), end + 1


def elements(text: str, at: int) -> tuple[tuple[Element, ...], int]:
    """The elements of the array that begins at ``at``, and what stands behind it.

    Raises:
        BadRequest: there is none, or it is not well-formed.
    """
    if text[at : at + 1] != "[":
        raise BadRequest("an array is missing where one has to stand")
    found: list[Element] = []
    at = skip(text, at + 1)
    if text[at : at + 1] == "]":
        return (), at + 1
    while True:
        value, after = _value(text, at)
        found.append(Element(value, at, after))
        end = skip(text, after)
        if text[end : end + 1] == "]":
            return tuple(found), end + 1
        at = skip(text, _behind_comma(text, end))


def _behind_comma(text: str, at: int) -> int:
    if text[at : at + 1] != ",":
        raise BadRequest(_NOT_JSON)
    return at + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _SCANNER.raw_decode(text, at)
    except (ValueError, RecursionError):
        raise BadRequest(_NOT_JSON) from None
