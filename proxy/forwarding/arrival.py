"""Requests whose path names no service: the listener, the host name, the key or the path itself may.

A literal service id as the first segment always wins. Then the listener's service, then
``{service}.{suffix}`` as Host, then the root of the key. Last, if the operator switched it on, paths that
only one service has, and only for services that the key permits.
"""

import re
from collections.abc import Mapping

from proxy.catalog.model import Service
from proxy.forwarding.links.addresses import Arrival
from proxy.forwarding.routing import Route, Target, parse_target, rooted_target

# Roots that no two services share, of SDKs that drop their base URL's path. Not ``/api/`` nor ``/v1.0/``:
# five services have the one, four the other.
FALLBACK: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern), service)
    for pattern, service in (
        (rb"/services/", "salesforce"),  # jsforce bulk 2, simple-salesforce with instance_url
        (rb"/(?:resumable/)?(?:upload/)?drive/v[0-9]+/", "googledrive"),  # googleapis for Node with rootUrl
        (rb"/(?:resumable/)?(?:upload/)?calendar/v3/", "googlecalendar"),
        (rb"/(?:resumable/)?(?:upload/)?gmail/v1/", "gmail"),
        (rb"/(?:resumable/)?(?:upload/)?bigquery/v2/", "googlebigquery"),
        (rb"/v1beta/(?:properties|accounts|accountSummaries)(?:[/:?]|$)", "google_analytics"),
        (rb"/v4/spreadsheets(?:[/:?]|$)", "googlesheets"),
        (rb"/v1/documents(?:[/:?]|$)", "googledocs"),
        (rb"/v1/presentations(?:[/:?]|$)", "googleslides"),
        (rb"/v1/courses(?:[/:?]|$)", "google_classroom"),
        (rb"/webmasters/v3/", "google_search_console"),
    )
)


def by_arrival(
    target: Target,
    raw: bytes,
    services: Mapping[str, Service],
    *,
    listener: str | None,
    host: bytes,
    suffixes: tuple[str, ...],
) -> tuple[Target, Service | None]:
    """The target and its service as far as they are known without a key; else the service is None.

    Args:
        target: as the path alone says.
        raw: the request target.
        services: in force, by id.
        listener: the service of the listener, if it is one's own.
        host: value of the Host field.
        suffixes: of virtual hosts, lower case.
    """
    service = services.get(target.service)
    if service is not None or (listener is None and not suffixes):
        return target, service
    root = listener or _virtual(host, suffixes)
    service = services.get(root) if root is not None else None
    return (target, None) if service is None else (rooted_target(raw, service.type_id), service)


def _virtual(host: bytes, suffixes: tuple[str, ...]) -> str | None:
    name = re.sub(r":[0-9]+$", "", host.decode("ascii").lower()).removesuffix(".")
    for suffix in suffixes:
        label = name.removesuffix("." + suffix)
        if label != name and "." not in label:
            return label
    return None


def by_path(raw: bytes) -> str | None:
    """The one service that has such a path, or None."""
    return next((service for pattern, service in FALLBACK if pattern.match(raw)), None)


def arrival_of(
    raw: bytes,
    route: Route,
    *,
    base: bytes,
    services: Mapping[str, Service],
    roots: tuple[str | None, ...],
    host: bytes,
    suffixes: tuple[str, ...],
) -> Arrival:
    """How a request came, for the addresses in its answer.

    Args:
        raw: the request target.
        route: where it led.
        base: scheme and authority of addresses.
        services: in force, by id.
        roots: services that targets at ``base`` may leave unnamed for this caller: the listener's, the key's.
        host: value of the Host field; empty where ``base`` is another one.
        suffixes: of virtual hosts, lower case.
    """
    service = route.service.type_id
    target = parse_target(raw)
    name = b"/" + service.encode()
    if target.service == service:
        prefix = name if target.connection is None else b"%b@%b" % (name, target.connection.encode())
    else:
        target = rooted_target(raw, service)
        prefix = b"" if service in roots or _virtual(host, suffixes) == service else name
    rest, path = target.rest, route.path
    has_more = target.host is None and rest.endswith(path)
    return Arrival(base, prefix, rest[: len(rest) - len(path)] if has_more else b"", services)
