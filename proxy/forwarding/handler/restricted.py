"""Keys whose permits carry words: the read-only preset, and observing. Their requests go the long way."""

from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.catalog.model import ReadOnlyEntry
from proxy.connectors.model import Credential
from proxy.connectors.module import Obtain
from proxy.errors import NotPermitted, RequestError
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.held import hold
from proxy.forwarding.keys import Grant
from proxy.forwarding.permits import graphql, marked
from proxy.forwarding.permits.preset import Call
from proxy.forwarding.permits.verdicts import check_open, no_permit
from proxy.forwarding.record import Record
from proxy.forwarding.routing import Route
from proxy.problems import row


class Passed(NamedTuple):
    """A call that may be made. ``body``: what of the request's was read to find out, the whole of it."""

    credential: Credential
    body: bytes | None


class Asking(NamedTuple):
    """Who asks, and what it takes to read what they send. ``body``: if it was read already."""

    head: Head
    grant: Grant
    payload: StreamReader
    caller: CallerConnection
    record: Record
    body: bytes | None


async def passed(
    asking: Asking, route: Route, method: str, obtain: Obtain, credential: Credential | None
) -> Passed:
    """Judge a call by permits with words; a credential is asked for only if the key may use it, or could.

    Args:
        asking: see there.
        route: where it goes.
        method: the one that counts.
        obtain: gives the account's credential.
        credential: the same, if it is at hand.

    Raises:
        NotPermitted, AmbiguousTarget, CredentialPath: the call must not be made.
        RequestTimeout, BadRequest: its body does not come, or is malformed.
    """
    head, grant, _, _, record, body = asking
    service = route.service
    check_open(service, route.path)
    call = _call(head, route, method, route.connection if credential is None else credential.connection)
    if call.connection is None and grant.permits.names_connections(service.type_id):
        if not marked.could_allow(grant.permits, call):
            raise NotPermitted(no_permit(method), service=service.type_id)
        credential = await obtain(service.type_id, None)
        call = call._replace(connection=credential.connection)
    refused, document, observed = marked.judge(grant.permits, call)
    if document is not None:
        refused, body = await _looked_into(document, asking, call)
    if refused is not None:
        if not observed:
            raise refused
        record.observed = row(refused).code
    return Passed(credential or await obtain(service.type_id, route.connection), body)


def why_not(head: Head, grant: Grant, route: Route, method: str, connection: str) -> RequestError | None:
    """Why permits with words would refuse a call that carries no document; None: they would not."""
    refused, document, observed = marked.judge(grant.permits, _call(head, route, method, connection))
    if document is not None:
        refused = NotPermitted(marked.NOT_READ_ONLY, service=route.service.type_id)
    return None if observed else refused


def _call(head: Head, route: Route, method: str, connection: str | None) -> Call:
    return Call(
        route.service,
        connection,
        method,
        route.path,
        None if route.host is None else route.host.name,
        route.query,
        head.method.decode(),
        head.body == "chunked" or head.length > 0 or head.websocket,
    )


async def _looked_into(
    entry: ReadOnlyEntry, asking: Asking, call: Call
) -> tuple[RequestError | None, bytes | None]:
    """Why the GraphQL in a request is not certain to read only, and the request's body if it was read."""
    body = asking.body
    if call.method != "POST":
        reason = graphql.why_not_query(call.query, entry.without_fields)
    elif call.query:
        reason = "a GraphQL POST with a query string has two readings"
    elif not _one_form(asking.head):
        reason = (
            "GraphQL is judged in JSON only: Content-Type is application/json, in UTF-8 and not compressed"
        )
    elif asking.head.body != "length" or asking.head.length > graphql.MOST_BYTES:
        reason = f"GraphQL is judged with a Content-Length, of up to {graphql.MOST_BYTES} bytes"
    else:
        if body is None:
            # its length was told, and judged by the settings' limit
            body = await hold(asking.head, asking.payload, asking.caller, graphql.MOST_BYTES, allowed=0)
        reason = graphql.why_not_body(body, entry.without_fields)
    refused = (
        NotPermitted(f"the key is read-only: {reason}", service=call.service.type_id) if reason else None
    )
    return refused, body


def _one_form(head: Head) -> bool:
    """True when the body is JSON to everybody."""
    kinds = [value for low, _, value in head.fields if low == b"content-type"]
    codings = [value for low, _, value in head.fields if low == b"content-encoding"]
    return len(kinds) == 1 and graphql.is_json(kinds[0], b",".join(codings))
