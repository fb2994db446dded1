"""Bodies in which a key may stand, read before they are sent; all others stream (design §4).

Forms and SOAP are read whole. Of ``multipart/form-data``, which carries files, the beginning is.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.catalog.model import KeyPlace, Service
from proxy.errors import BadRequest, BodyTooLarge, InvalidKey, RequestError, RequestTimeout
from proxy.forwarding.caller import CONTINUE, CallerConnection
from proxy.forwarding.form import field_names, form_values, is_form, refuse_key, without_key
from proxy.forwarding.formdata import boundary_of, key_fields, without
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import NO_KEY, Presented, body_places, find_key
from proxy.forwarding.links.sent_back import MOST_BYTES
from proxy.forwarding.nested import multipart
from proxy.forwarding.permits.graphql import is_json
from proxy.forwarding.routing import Target, match
from proxy.forwarding.soap import is_soap, session_of, with_token

UNKNOWN_CALLER_BYTES = 65_536  # held for a caller that has not shown a key yet
KNOWN_CALLER_BYTES = 1_048_576  # held for one that has; Slack's largest forms stay well below
HOLD_S = 5.0


async def hold(
    head: Head,
    payload: StreamReader,
    caller: CallerConnection,
    most: int,
    *,
    allowed: int,
    seconds: float = HOLD_S,
) -> bytes:
    """The whole request body, read within some seconds; a caller that waits for 100 gets it first.

    Args:
        head: of the request.
        payload: where the body comes from.
        caller: who sends it.
        most: bytes that are held.
        allowed: bytes that any body may have, which a chunked one does not tell before (0: no limit).
        seconds: for all of it.

    Raises:
        BodyTooLarge: more than ``most`` or ``allowed`` bytes. RequestTimeout: not in time.
        BadRequest: malformed.
    """
    most = min(most, allowed or most)
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
    check_size(len(body), allowed)
    if len(body) > most:
        raise BodyTooLarge(f"a body that has to be read whole has at most {most} bytes")
    return bytes(body)


def check_size(size: int, allowed: int) -> None:
    """Raise BodyTooLarge for a body of more than ``allowed`` bytes; 0: there is no limit."""
    if allowed and size > allowed:
        raise BodyTooLarge(f"the request body is larger than {allowed} bytes")


async def hold_start(head: Head, payload: StreamReader, caller: CallerConnection, *, allowed: int) -> bytes:
    """The beginning of a body: ``UNKNOWN_CALLER_BYTES``, or what has come of it within ``HOLD_S`` seconds.

    All of it, if ``payload`` is at its end then.

    Raises:
        BodyTooLarge: more than ``allowed`` bytes (0: no limit). BadRequest: malformed.
    """
    if head.expects_continue and not payload.is_eof():
        caller.write(CONTINUE)
    start = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HOLD_S):
            while len(start) < UNKNOWN_CALLER_BYTES and not payload.at_eof():
                start += await _read(payload, UNKNOWN_CALLER_BYTES - len(start))
    check_size(len(start), allowed)
    return bytes(start)


async def _read(payload: StreamReader, most: int) -> bytes:
    try:
        return await payload.read(most)
    except (ConnectionError, BadRequest):
        raise
    except Exception as error:
        raise BadRequest("the request body is not well-formed") from error


class Known(NamedTuple):
    """What is known of a body that may have to be changed.

    ``places``: for keys, declared for the path. ``key``: to be taken out. ``token``: gives the account's, for
    places where the service expects it. ``rewritten``: what JSON goes through; None: it passes as it is.
    ``allowed``: bytes that any body may have; 0: no limit.
    """

    places: tuple[KeyPlace, ...]
    key: bytes
    token: Callable[[], str]
    rewritten: Callable[[bytes], bytes] | None = None
    allowed: int = 0


class Freed(NamedTuple):
    """A body without the key, and the head that frames it; ``body`` None: it streams as it comes.

    ``rest``: more of it comes behind ``body``. ``watched``: nothing of the key may be in what streams.
    ``spliced``: the token may stand in it.
    """

    head: Head
    body: bytes | None
    watched: bool = False
    spliced: bool = False
    rest: bool = False


async def freed_body(
    head: Head, held: bytes | None, payload: StreamReader, caller: CallerConnection, known: Known
) -> Freed:
    """The body of a request to a path with places for keys or for addresses in bodies.

    Only forms, SOAP and JSON with such places are held, where their length is known only up to
    ``KNOWN_CALLER_BYTES``, JSON up to ``sent_back.MOST_BYTES``. The rest streams, of ``multipart/form-data``
    what comes behind its beginning.

    Args:
        head: as it came.
        held: the body, or its beginning, if it was read already.
        payload: to read it from otherwise.
        caller: who sends it.
        known: see there.

    Raises:
        BodyTooLarge, RequestTimeout, BadRequest: see :func:`hold` and :func:`without_key`.
        AmbiguousKey, CredentialPath: see :func:`with_token`. CallerError: of an address in it.
    """
    names = field_names(known.places)
    boundary = boundary_of(head.values.get(b"content-type", b"")) if names else None
    if boundary is not None:
        if held is None:
            held = await hold_start(head, payload, caller, allowed=known.allowed)
        body = without(held, key_fields(held, boundary, names))
        refuse_key(body, known.key)
        return _framed(head, held, body, rest=not payload.at_eof())
    change, most = _change_of(head, known)
    if held is None:
        if change is None or head.length > most:
            return Freed(head, None, watched=bool(known.places))
        held = await hold(head, payload, caller, most, allowed=known.allowed)
    body = held if change is None else change(held)
    refuse_key(body, known.key)
    spliced = any(place.where == "soap" for place in known.places)
    return Freed(head._replace(body="length", length=len(body)), body, spliced=spliced)


def _framed(head: Head, start: bytes, body: bytes, *, rest: bool) -> Freed:
    """``body`` in place of ``start``."""
    if not rest:
        return Freed(head._replace(body="length", length=len(body)), body)
    taken = len(start) - len(body)
    head = head._replace(length=head.length - taken) if head.body == "length" else head
    return Freed(head, body, watched=True, rest=True)


def _change_of(head: Head, known: Known) -> tuple[Callable[[bytes], bytes] | None, int]:
    """What has to be done to a body of this type (None: nothing), and how many bytes are held for that."""
    names = field_names(known.places)
    if names and is_form(head):
        return lambda body: without_key(body, names, known.key), KNOWN_CALLER_BYTES
    session = _session_place(head, known.places)
    if session is not None:
        call = partial(with_token, name=session.name, closed=session.closed, key=known.key, token=known.token)
        return call, KNOWN_CALLER_BYTES
    coding = head.values.get(b"content-encoding", b"")
    if known.rewritten is not None and is_json(head.values.get(b"content-type", b""), coding):
        return known.rewritten, MOST_BYTES
    return None, 0


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
    *,
    allowed: int,
) -> tuple[Presented, bytes]:
    """Look for the key in the places of the body that the service's file declares, when no other holds one.

    The second value is the body, of ``multipart/form-data`` perhaps its beginning only. ``allowed``: bytes
    that any body may have; 0: no limit.

    Raises:
        InvalidKey: there is none; AmbiguousKey: two different ones.
        BodyTooLarge, RequestTimeout, BadRequest: see :func:`hold`.
    """
    try:
        places = () if service is None else body_places(service, match(target, head.method, service).path)
    except RequestError:  # what is wrong with the address is told to valid keys only
        places = ()
    if head.body == "none" or not places:
        raise InvalidKey(NO_KEY)
    names = field_names(places)
    boundary = boundary_of(head.values.get(b"content-type", b"")) if names else None
    if boundary is not None:
        body = await hold_start(head, payload, caller, allowed=allowed)
        found = [field.value for field in key_fields(body, boundary, names)]
        return find_key(head, service, target.query, found), body
    values = _reader_of(head, places)
    if values is None:
        raise InvalidKey(NO_KEY)
    body = await hold(head, payload, caller, UNKNOWN_CALLER_BYTES, allowed=allowed)
    return find_key(head, service, target.query, values(body)), body


def _reader_of(head: Head, places: tuple[KeyPlace, ...]) -> Callable[[bytes], list[bytes]] | None:
    """What finds the values of declared places in such a body; None: there are no places in it."""
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
