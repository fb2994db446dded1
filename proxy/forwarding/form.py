"""Keys in bodies: found in form fields and taken out byte-exactly; never passed on anywhere else (design §4).

Slack's SDKs send their token as a field of an ``application/x-www-form-urlencoded`` body, alone or beside the
header. Only services whose file declares such a place are looked at, only on the declared paths.
"""

import asyncio

from aiohttp.streams import StreamReader

from proxy.catalog.model import KeyPlace, Service
from proxy.errors import BadRequest, BodyTooLarge, InvalidKey, RequestError, RequestTimeout
from proxy.forwarding.caller import CONTINUE, CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import NO_KEY, Presented, body_places, find_key, query_pairs
from proxy.forwarding.routing import Target, match

UNKNOWN_CALLER_BYTES = 65_536  # held for a caller that has not shown a key yet
KNOWN_CALLER_BYTES = 1_048_576  # held for one that has; Slack's largest forms stay well below
HOLD_S = 5.0
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


async def hold(head: Head, payload: StreamReader, caller: CallerConnection, most: int) -> bytes:
    """The whole request body, read within ``HOLD_S`` seconds; a caller that waits for 100 gets it first.

    Raises:
        BodyTooLarge: more than ``most`` bytes. RequestTimeout: not in time. BadRequest: malformed.
    """
    if head.expects_continue and not payload.is_eof():
        caller.write(CONTINUE)
    body = bytearray()
    try:
        async with asyncio.timeout(HOLD_S):
            while piece := await payload.readany():
                body += piece
                if len(body) > most:
                    break
    except TimeoutError as error:
        raise RequestTimeout("the request body did not arrive in time") from error
    except (ConnectionError, BadRequest):
        raise
    except Exception as error:
        raise BadRequest("the request body is not well-formed") from error
    if len(body) > most:
        raise BodyTooLarge(f"a body in which a key may stand has at most {most} bytes")
    return bytes(body)


async def freed_body(
    head: Head,
    held: bytes | None,
    payload: StreamReader,
    caller: CallerConnection,
    *,
    places: tuple[KeyPlace, ...],
    key: bytes,
) -> tuple[Head, bytes | None]:
    """The body of a request to a path with body places, without the key, and the head that frames it.

    Only forms are held, and only up to ``KNOWN_CALLER_BYTES`` where their length is known; the rest is None:
    it streams, watched for the key.

    Args:
        head: as it came.
        held: the body if it was read already.
        payload: to read it from otherwise.
        caller: who sends it.
        places: declared for the path.
        key: to be taken out.

    Raises:
        BodyTooLarge, RequestTimeout, BadRequest: see :func:`hold` and :func:`without_key`.
    """
    names = field_names(places)
    if held is None:
        if not names or not is_form(head) or head.length > KNOWN_CALLER_BYTES:
            return head, None
        held = await hold(head, payload, caller, KNOWN_CALLER_BYTES)
    body = without_key(held, names, key)
    return head._replace(body="length", length=len(body)), body


async def key_in_form(
    head: Head,
    target: Target,
    service: Service | None,
    payload: StreamReader,
    caller: CallerConnection,
) -> tuple[Presented, bytes]:
    """Look for the key in the form fields that the service's file declares, when no other place holds one.

    Raises:
        InvalidKey: there is none; AmbiguousKey: two different ones.
    """
    if service is None or not is_form(head):
        raise InvalidKey(NO_KEY)
    try:
        names = field_names(body_places(service, match(target, head.method, service).path))
    except RequestError as error:  # what is wrong with the address is told to valid keys only
        raise InvalidKey(NO_KEY) from error
    if not names:
        raise InvalidKey(NO_KEY)
    body = await hold(head, payload, caller, UNKNOWN_CALLER_BYTES)
    return find_key(head, service, target.query, form_values(body, names)), body
