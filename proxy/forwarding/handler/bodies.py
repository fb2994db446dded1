"""Bodies that may hold a key, or addresses of the proxy: read and changed before the request is sent."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from aiohttp.streams import StreamReader

from proxy.catalog.model import Catalog
from proxy.connectors.model import Credential
from proxy.errors import NotPermitted
from proxy.forwarding.caller import CallerConnection
from proxy.forwarding.gate import Head
from proxy.forwarding.held import Freed, Known, freed_body
from proxy.forwarding.keys import Grant, KeyRing, Presented, body_places
from proxy.forwarding.limits import DataPlaneOptions
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.links.declared import sent_back_to
from proxy.forwarding.links.members import Names
from proxy.forwarding.links.sent_back import Own, Whose, may_hold, own_address, with_own
from proxy.forwarding.nested.judging import origins
from proxy.forwarding.routing import Route, Target


class Arrived(NamedTuple):
    """How a request came, and what addresses of the proxy in its body are judged by."""

    head: Head
    grant: Grant
    caller: CallerConnection
    now: float
    catalog: Catalog
    keyring: KeyRing
    capabilities: Capabilities
    options: DataPlaneOptions


async def freed(
    arrived: Arrived,
    route: Route,
    presented: Presented,
    credential: Credential,
    *,
    held: bytes | None,
    payload: StreamReader,
) -> Freed:
    """The request's body as it may go on.

    Args:
        arrived: see there.
        route: where it goes.
        presented: the key.
        credential: the account's.
        held: the body, if it was read already.
        payload: where it comes from otherwise.

    Raises:
        RequestError: as ``held.freed_body``.
    """
    service = route.service
    places = body_places(service, route.path) if service.key_places else ()
    names = sent_back_to(service, route.path) if service.links_back and arrived.options.links else None
    if not places and names is None:
        return Freed(arrived.head, held)
    rewritten = None if names is None else _rewriting(names, arrived, route, credential)
    token, allowed = credential.access_token.reveal, arrived.options.body_bytes
    known = Known(places, presented.key, token, rewritten, allowed)
    return await freed_body(arrived.head, held, payload, arrived.caller, known)


def own_by(arrived: Arrived, route: Route, credential: Credential) -> Own:
    """What becomes of addresses in the body of a request that goes to a service with that credential."""
    head, grant, options = arrived.head, arrived.grant, arrived.options
    whose = Whose(
        origins=origins(head.host, options.public_url),
        services=arrived.catalog.services,
        listener=arrived.caller.listener,
        root=grant.record.root,
        host=head.host,
        suffixes=options.host_suffixes,
        connection=credential.connection,
        config=credential.config or {},
        presigned=partial(_presigned, arrived, route),
    )
    return partial(own_address, service=route.service, whose=whose)


def _rewriting(
    names: Names, arrived: Arrived, route: Route, credential: Credential
) -> Callable[[bytes], bytes]:
    """What a JSON body goes through; it raises a CallerError for an address that leads elsewhere."""

    def rewritten(body: bytes) -> bytes:
        if not may_hold(body, origins(arrived.head.host, arrived.options.public_url)):
            return body
        return with_own(body, own_by(arrived, route, credential), names)

    return rewritten


def _presigned(arrived: Arrived, route: Route, target: Target) -> Route:
    """What a capability address leads to, if it was given to the holder of this very key."""
    grant, leads = arrived.capabilities.judged(
        target,
        b"GET",
        route.service,
        keyring=arrived.keyring,
        now=arrived.now,
        peer=arrived.caller.peer or None,
    )
    if grant.record.key_id != arrived.grant.record.key_id:
        raise NotPermitted("the address was given to another key", service=route.service.type_id)
    return leads
