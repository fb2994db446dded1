"""What a service tells everybody: its SDKs ask without a credential, so it takes no key and gets no token."""

from proxy.catalog.model import Service
from proxy.errors import RequestError
from proxy.forwarding.gate import Head
from proxy.forwarding.keys import Grant, shows_nothing
from proxy.forwarding.permits import compile_permits, effective_method
from proxy.forwarding.routing import Route, Target, match, resolve_host
from proxy.keys import KeyRecord

NOBODY = Grant(KeyRecord(key_id="", name="nobody", digest=bytes(32), permits=()), compile_permits([]))
"""Who asks without a key. No key has this digest's key, and addresses made for it lead nowhere."""


def public_route(head: Head, target: Target, service: Service | None) -> Route | None:
    """Where a request goes that shows no key at all, if its path is everybody's by the service's file.

    None, whatever is wrong with it: without a key nothing more is told (R84).
    """
    if service is None or not service.public or head.websocket:
        return None
    if not shows_nothing(head, service, target.query):
        return None
    try:
        route = match(target, head.method, service)
        if effective_method(head, route.query, service) != head.method.decode():
            return None
        host = resolve_host(route, None)
    except RequestError:
        return None
    if host.token != "none" or not any(pattern.matches(route.path) for pattern in service.public):  # noqa: S105  # a choice
        return None
    return route._replace(host=host)
