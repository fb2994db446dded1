"""Batches for tests: written as clients write them, judged without a socket."""

import json
from collections.abc import Iterable, Sequence
from functools import partial

from proxy.catalog import load_catalog
from proxy.forwarding.gate import DEFAULT_LIMITS, gate
from proxy.forwarding.keys import Grant, Presented
from proxy.forwarding.links.sent_back import own_address
from proxy.forwarding.nested import judging
from proxy.forwarding.permits import compile_permits, parse_permit
from proxy.forwarding.routing import match, parse_target
from support import steps
from support.sent_back import whose

CATALOG = load_catalog()
HOST = b"proxy.example:8080"
BASE = "http://" + HOST.decode()
GOOGLE, GRAPH = b"/googlecalendar/batch/calendar/v3", b"/outlook/v1.0/$batch"
BOUNDARY = b"===============42=="
MIXED = b'multipart/mixed; boundary="' + BOUNDARY + b'"'
JSON = b"application/json"


def part(request: bytes, *about: bytes, end: bytes = b"\r\n") -> bytes:
    """One part with its own fields; ``request``: head and body, lines ended by LF."""
    lines = (b"Content-Type: application/http", *about)
    head, blank, body = request.partition(b"\n\n")
    return b"".join([*(line + end for line in lines), end, head.replace(b"\n", end), blank and end * 2, body])


def mixed(*parts: bytes, end: bytes = b"\r\n", boundary: bytes = BOUNDARY) -> bytes:
    """The whole batch."""
    lead = b"--" + boundary
    return b"".join([*(b"%b%b%b%b" % (lead, end, one, end) for one in parts), lead, b"--", end])


def requests(*parts: bytes, end: bytes = b"\r\n") -> bytes:
    """The whole batch of these requests."""
    return mixed(*(part(one, end=end) for one in parts), end=end)


def objects(*urls: str, **more: object) -> bytes:
    """A JSON batch of GETs."""
    entries = [{"id": str(n), "method": "GET", "url": url, **more} for n, url in enumerate(urls, 1)]
    return json.dumps({"requests": entries}).encode()


def judged(
    target: bytes,
    media: bytes,
    body: bytes,
    *,
    permits: Sequence[str] = ("*",),
    fields: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """The body that goes to the service; raises what the caller would be told."""
    parsed = parse_target(target)
    route = match(parsed, b"POST", CATALOG.services[parsed.service])
    assert judging.is_open(route), route.path
    head = gate("POST", target.decode(), (1, 1), [(b"Host", HOST), (b"Content-Type", media), *fields])
    judging.check_whole(head, route)
    judge = judging.Judge(
        route,
        grant=Grant(steps.record(*permits), compile_permits([parse_permit(one) for one in permits])),
        presented=Presented(steps.KEY),
        account=judging.Account("main", {}),
        ours=judging.origins(HOST, b""),
        own=partial(own_address, service=route.service, whose=whose(CATALOG.services, HOST)),
        known=CATALOG.services,
        limits=DEFAULT_LIMITS,
    )
    envelope = judging.read(head, route, body)
    return envelope.written([judge.judged(number, inner) for number, inner in enumerate(envelope.inners, 1)])
