"""An open WebSocket was judged once; now and then it is asked whether it would be again (R89)."""

from proxy.errors import InvalidKey, NotConnected, RequestError, UnknownService
from proxy.forwarding.handler.restricted import why_not
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.permits import WEBSOCKET, check
from proxy.forwarding.permits.verdicts import check_open


def why_over(admitted: Admitted, terms: Terms, *, now: float, peer: str) -> RequestError | None:
    """Why a WebSocket that was admitted could not be opened any more; None: it could.

    Args:
        admitted: its handshake.
        terms: in force.
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
    if credential is None or not terms.connectors.stands(credential):
        return NotConnected("the connection was removed or frozen", service=service.type_id)
    try:
        check_open(service, route.path)
        if grant.restricted:
            return why_not(admitted.head, grant, route, WEBSOCKET, credential.connection)
        check(grant.permits, service, credential.connection, WEBSOCKET, route.path)
    except RequestError as error:
        return error
    return None
