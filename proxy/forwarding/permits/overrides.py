"""The method that a service will act on: a field or parameter may name another one than the request line."""

from urllib.parse import unquote_plus

from proxy.catalog.model import Service
from proxy.errors import NotPermitted
from proxy.forwarding.gate import Head
from proxy.forwarding.headers import fold
from proxy.forwarding.permits.grammar import METHOD, WEBSOCKET

# Fields and parameters by which some servers take another method than the one in the request line. Folded,
# lower case.
OVERRIDE_HEADERS = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override", b"http-method-override"}
)
OVERRIDE_PARAMETERS = frozenset(
    {
        b"-method",
        b"-httpmethod",
        b"$httpmethod",
        b"httpmethod",
        b"http-method",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)
_VERB = b"method"


def effective_method(head: Head, query: bytes | None, service: Service) -> str:
    """The method that the service will act on.

    An override that the service's file declares counts on POST only, as services have it; everywhere else,
    and where it is not declared, a request that carries one is refused: it would be judged as something else.

    Raises:
        NotPermitted: an override that is not declared, not on POST, not a method, or says two things.
    """
    method = WEBSOCKET if head.websocket else head.method.decode()
    found = _overriding_headers(head)
    # A name can hide its letters behind escapes, never all of them from one decoding.
    if query and (b"%" in query or _VERB in query.lower()):
        found += _overriding_parameters(query)
    if not found:
        return method
    declared = _declared_overrides(service)
    if any(place not in declared for place, _ in found) or not declared.isdisjoint(head.connection_names):
        raise NotPermitted("method overrides are refused for this service", service=service.type_id)
    said = {value.decode("latin-1").upper() for _, value in found}
    chosen = said.pop()
    if said or method != "POST" or METHOD.fullmatch(chosen) is None:
        raise NotPermitted("the method override is not one clear method on a POST", service=service.type_id)
    return chosen


def hides_method(head: Head, query: bytes | None) -> bool:
    """True when anything of the request might be taken for another method, declared or not."""
    return bool(_overriding_headers(head) or (query and _overriding_parameters(query)))


def _declared_overrides(service: Service) -> frozenset[bytes]:
    """The places in which the service looks, and no look-alikes: what it overlooks stays a POST.

    A header field by its name in lower case, a parameter by ``?`` and its name to the byte.
    """
    return frozenset(
        name.lower().encode() if fold(name.encode()) in OVERRIDE_HEADERS else b"?" + name.encode()
        for name in service.method_override
    )


def _overriding_headers(head: Head) -> list[tuple[bytes, bytes]]:
    if head.odd_names:
        return [(low, value) for low, _, value in head.fields if fold(low) in OVERRIDE_HEADERS]
    if OVERRIDE_HEADERS.isdisjoint(head.values):
        return []
    return [(low, value) for low, _, value in head.fields if low in OVERRIDE_HEADERS]


def _overriding_parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    for whole in query.split(b"&"):
        for part in whole.split(b";"):
            name, _, value = part.partition(b"=")
            plain = fold(unquote_plus(name.decode("ascii"), "latin-1").encode("latin-1"))
            if plain in OVERRIDE_PARAMETERS:
                place = b"?" + name if part == whole else b";"  # not every server splits there
                found.append((place, unquote_plus(value.decode("ascii"), "latin-1").encode("latin-1")))
    return found
