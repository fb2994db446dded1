"""Keys in form fields: found there and taken out byte-exactly. Pure.

Slack's SDKs send their token as a field of an ``application/x-www-form-urlencoded`` body, alone or beside the
header. Only services whose file declares such a place are looked at, only on the declared paths.
"""

from proxy.catalog.model import KeyPlace
from proxy.errors import BadRequest
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import query_pairs

_FORM = b"application/x-www-form-urlencoded"


def is_form(head: Head) -> bool:
    """True when the request's body is a form."""
    media_type = head.values.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return head.body != "none" and media_type == _FORM


def field_names(places: tuple[KeyPlace, ...]) -> frozenset[bytes]:
    """The lower-case names of the form fields among the places."""
    return frozenset(place.name.lower().encode() for place in places if place.where == "form")


def form_values(body: bytes, names: frozenset[bytes]) -> list[bytes]:
    """What stands in the fields of those names, decoded once."""
    return [value for name, value in query_pairs(body) if name in names and value]


def without_key(body: bytes, names: frozenset[bytes], key: bytes) -> bytes:
    """The form without the fields that hold the key or are places for it; the rest byte for byte.

    Raises:
        BadRequest: the key stands somewhere else in it.
    """
    parts = zip(body.split(b"&"), query_pairs(body), strict=True)
    body = b"&".join([part for part, (name, value) in parts if name not in names and key not in value])
    refuse_key(body, key)
    return body


def refuse_key(piece: bytes, key: bytes | None) -> None:
    """Stop a body that holds the key.

    Raises:
        BadRequest: it does.
    """
    if key is not None and key in piece:
        raise BadRequest("the proxy key stands in the body, in a place from which it cannot be removed")
