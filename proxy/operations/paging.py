"""Pages of lists: what comes after a position, at most so many, and a cursor for the rest."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from proxy.errors import ConfigurationError, Fault
from proxy.operations.operation import Asked, Document

T = TypeVar("T")
Position = tuple[str, ...]
LIMIT = 100


def page(
    asked: Asked,
    items: Iterable[T],
    position: Callable[[T], Position],
    document: Callable[[T], Document],
) -> Document:
    """The page that was asked for, of things with a position each, which orders them and never changes.

    Raises:
        ConfigurationError: the cursor is none of this list.
    """
    ordered = sorted(items, key=position)
    after = after_of(asked, len(position(ordered[0])) if ordered else None)
    rest = (one for one in ordered if after is None or position(one) > after)
    return page_document(asked, tuple(islice(rest, limit_of(asked) + 1)), position, document)


def page_document(
    asked: Asked, found: tuple[T, ...], position: Callable[[T], Position], document: Callable[[T], Document]
) -> Document:
    """A page of what was found, of which one more than fits says that there is another page."""
    limit = limit_of(asked)
    shown = found[:limit]
    more = _cursor(position(shown[-1])) if len(found) > limit else None
    return {"items": [document(one) for one in shown], "next": more}


def limit_of(asked: Asked) -> int:
    """How many a page holds at most."""
    return int(asked.query.get("limit", LIMIT))


def after_of(asked: Asked, parts: int | None) -> Position | None:
    """The position after which the page begins, None for the first; ``parts`` that it has, where known.

    Raises:
        ConfigurationError: the cursor is none of this list.
    """
    text = asked.query.get("cursor")
    if text is None:
        return None
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    fits = isinstance(found, list) and all(isinstance(part, str) for part in found)
    if not fits or (parts is not None and len(found) != parts):
        raise ConfigurationError(Fault("cursor", "is none that a page of this list gave as next"))
    return tuple(found)


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")
