"""Bytes of an answer to a document, without trust: bounded, one reading only, no surprises by type (R105).

A member that stands twice with different values, NaN, and numbers beyond any use become ``AMBIGUOUS``, which
is of no type that a reader wants: what matters then fails, what does not is as if it were not there.
"""

import json
import zlib
from typing import Any, Final, final
from urllib.parse import parse_qsl

MAX_BODY = 2**20
_MAX_FIELDS = 200
_MAX_DIGITS = 20
_FORM = "application/x-www-form-urlencoded"
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class UnreadableError(ValueError):
    """An answer that is no document; the message never holds any of it."""


@final
class Ambiguous:
    """The value of a member that can be read in two ways; there is one, ``AMBIGUOUS``."""

    __slots__ = ()


AMBIGUOUS: Final = Ambiguous()


def unpack(body: bytes, coding: str) -> bytes:
    """The body without its content coding, of which we ask for none (RFC 9110 §8.4).

    Raises:
        UnreadableError: another coding than gzip or deflate, cut short, or over ``MAX_BODY`` unpacked.
    """
    if coding.strip().lower() in {"", "identity"}:
        return body
    if coding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        raise UnreadableError("has a content coding that was not asked for")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = unpacker.decompress(body, MAX_BODY + 1)
    except zlib.error:
        raise UnreadableError("does not unpack") from None
    if len(plain) > MAX_BODY:
        raise UnreadableError(f"is over {MAX_BODY} bytes unpacked")
    if not unpacker.eof:
        raise UnreadableError("is cut short")
    return plain


def read_document(content_type: str, body: bytes) -> dict[str, Any]:
    """The object that an answer holds: JSON, or a form where it says so or plain text looks like one.

    The charset parameter is not believed: JSON is UTF-8 (RFC 8259 §8.1), and so is what forms decode to.

    Raises:
        UnreadableError: empty, too large, not UTF-8, HTML, cut, too deep, or no object.
    """
    if not body.strip():
        raise UnreadableError("is empty")
    if len(body) > MAX_BODY:
        raise UnreadableError(f"is over {MAX_BODY} bytes")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError("is not UTF-8") from None
    media = content_type.partition(";")[0].strip().lower()
    if media == _FORM or (media in {"", "text/plain"} and not text.lstrip().startswith(("{", "[", "<"))):
        return _read_form(text.strip())
    return _read_json(text)


def _read_json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(
            text, object_pairs_hook=_object, parse_constant=lambda _: AMBIGUOUS, parse_int=_integer
        )
    except (ValueError, RecursionError):
        raise UnreadableError("is not JSON") from None
    if not isinstance(found, dict):
        raise UnreadableError("is not a JSON object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = AMBIGUOUS if name in found and not _same(found[name], value) else value
    return found


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _integer(digits: str) -> int | Ambiguous:
    return int(digits) if len(digits) <= _MAX_DIGITS else AMBIGUOUS


def _read_form(text: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise UnreadableError("is not a form") from None
    return _object(pairs)
