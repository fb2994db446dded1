"""Bodies in which a key may stand, read whole before they are sent; all others stream (design §4)."""

import asyncio
from collections.abc import Callable

from aiohttp.streams import StreamReader

from proxy.catalog.model import KeyPlace, Service
from proxy.errors import BadRequest, BodyTooLarge, InvalidKey, RequestError, RequestTimeout
from proxy.forwarding.caller import CONTINUE, CallerConnection
from proxy.forwarding.form import field_names, form_values, is_form, refuse_key, without_key
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import NO_KEY, Presented, body_places, find_key
from proxy.forwarding.nested import multipart
from proxy.forwarding.routing import Target, match
from proxy.forwarding.soap import is_soap, session_of, with_token

UNKNOWN_CALLER_BYTES = 65_536  # held for a caller that has not shown a key yet
KNOWN_CALLER_BYTES = 1_048_576  # held for one that has; Slack's largest forms stay well below
HOLD_S = 5.0


async def hold(
    head: Head, payload: StreamReader, caller: CallerConnection, most: int, seconds: float = HOLD_S
) -> bytes:
    """The whole request body, read within some seconds; a caller that waits for 100 gets it first.

    Raises:
        BodyTooLarge: more than ``most`` bytes. RequestTimeout: not in time. BadRequest: malformed.
    """
    if head.expects_continue and not payload.is_eof():
        caller.write(CONTINUE)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
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
        raise BodyTooLarge(f"a body that has to be read whole has at most {most} bytes")
    return bytes(body)


async def freed_body(
    head: Head,
    held: bytes | None,
    payload: StreamReader,
    caller: CallerConnection,
    *,
    places: tuple[KeyPlace, ...],
    key: bytes,
    token: Callable[[], str],
) -> tuple[Head, bytes | None]:
    """The body of a request to a path with body places, without the key, and the head that frames it.

    Only forms and SOAP are held, and only up to ``KNOWN_CALLER_BYTES`` where their length is known; the rest
    is None: it streams, watched for the key.

    Args:
        head: as it came.
        held: the body if it was read already.
        payload: to read it from otherwise.
        caller: who sends it.
        places: declared for the path.
        key: to be taken out.
        token: gives the account's, for places where the service expects it.

    Raises:
        BodyTooLarge, RequestTimeout, BadRequest: see :func:`hold` and :func:`without_key`.
        AmbiguousKey, CredentialPath: see :func:`with_token`.
    """
    names = field_names(places) if is_form(head) else frozenset()
    session = _session_place(head, places)
    if held is None:
        if not (names or session) or head.length > KNOWN_CALLER_BYTES:
            return head, None
        held = await hold(head, payload, caller, KNOWN_CALLER_BYTES)
    body = without_key(held, names, key) if session is None else held
    if session is not None:
        body = with_token(held, session.name, closed=session.closed, key=key, token=token)
        refuse_key(body, key)
    return head._replace(body="length", length=len(body)), body


def _session_place(head: Head, places: tuple[KeyPlace, ...]) -> KeyPlace | None:
    """The place for the session in a SOAP request."""
    if not is_soap(head.values.get(b"content-type", b"")):
        return None
    return next((place for place in places if place.where == "soap" and place.replace), None)


async def key_in_body(
    head: Head,
    target: Target,
    service: Service | None,
    payload: StreamReader,
    caller: CallerConnection,
) -> tuple[Presented, bytes]:
    """Look for the key in the places of the body that the service's file declares, when no other holds one.

    Raises:
        InvalidKey: there is none; AmbiguousKey: two different ones.
    """
    values = None if service is None or head.body == "none" else _reader_of(head, target, service)
    if values is None:
        raise InvalidKey(NO_KEY)
    body = await hold(head, payload, caller, UNKNOWN_CALLER_BYTES)
    return find_key(head, service, target.query, values(body)), body


def _reader_of(head: Head, target: Target, service: Service) -> Callable[[bytes], list[bytes]] | None:
    """What finds the values of declared places in such a body; None: there are no places in it."""
    try:
        places = body_places(service, match(target, head.method, service).path)
    except RequestError:  # what is wrong with the address is told to valid keys only
        return None
    if is_form(head):
        names = field_names(places)
        return (lambda body: form_values(body, names)) if names else None
    session = _session_place(head, places)
    if session is not None:
        return lambda body: _sessions(body, session.name)
    content_type = head.values.get(b"content-type", b"")
    fields = frozenset(place.name.lower().encode() for place in places if place.where == "part")
    if fields and multipart.boundary_of(content_type) is not None:
        return lambda body: multipart.values(content_type, body, fields)
    return None


def _sessions(body: bytes, name: str) -> list[bytes]:
    """The session in a SOAP request, for a caller without a key otherwise; its faults are not told."""
    try:
        return [session_of(body, name).value or b""]
    except BadRequest:
        return []
