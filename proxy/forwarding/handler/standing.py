"""An open WebSocket was judged once; now and then it is asked whether it would be again (R89)."""

from proxy.catalog.model import Service
from proxy.connectors.model import Credential
from proxy.errors import InvalidKey, NotConnected, RequestError, UnknownService
from proxy.forwarding.handler.restricted import why_not
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.keys import Grant
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.permits import WEBSOCKET, check
from proxy.forwarding.permits.verdicts import check_open
from proxy.forwarding.routing import parse_target


def why_over(
    admitted: Admitted, terms: Terms, capabilities: Capabilities, *, now: float, peer: str
) -> RequestError | None:
    """Why a WebSocket that was admitted could not be opened any more; None: it could.

    Args:
        admitted: its handshake.
        terms: in force.
        capabilities: judges addresses that carry their own authorization.
        now: seconds since the epoch.
        peer: the caller's address.
    """
    route, credential = admitted.route, admitted.credential
    grant = terms.keyring.living(admitted.grant.record.key_id, now=now, peer_ip=peer or None)
    if grant is None:
        return InvalidKey("the key was revoked or has expired")
    service = terms.catalog.services.get(route.service.type_id)
    if service is None:
        return UnknownService("the service is no longer in the catalog")
    try:
        if credential is not None:
            return _why_refused(admitted, grant, service, credential, terms)
        target, ring = parse_target(admitted.head.target), terms.keyring
        capabilities.judged(target, b"GET", service, keyring=ring, now=now, peer=peer or None, websocket=True)
    except RequestError as error:
        return error
    return None


def _why_refused(
    admitted: Admitted, grant: Grant, service: Service, credential: Credential, terms: Terms
) -> RequestError | None:
    route, connection = admitted.route, credential.connection
    if not terms.connectors.stands(credential):
        return NotConnected("the connection was removed or frozen", service=service.type_id)
    check_open(service, route.path)
    if grant.restricted:
        return why_not(admitted.head, grant, route, WEBSOCKET, connection)
    check(grant.permits, service, connection, WEBSOCKET, route.path)
    return None
