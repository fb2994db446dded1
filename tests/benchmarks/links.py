"""What looking for addresses in answers costs: `python tests/benchmarks/links.py [--json]`.

Megabytes a second of one core through the part that rewrites JSON, in pieces as they come from a socket; how many
bytes it holds back at most, fed byte by byte; and what services without declared members pay for each request.
CPU time of the thread, best of seven, as in micro.py.
"""

import json
import sys
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from proxy.catalog import load_catalog
from proxy.catalog.model import Service
from proxy.forwarding.injection import looks_into, prepare
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.declared import declared_by
from proxy.forwarding.links.members import Members
from proxy.forwarding.routing import match, parse_target, resolve_host
from proxy.secret import Secret

GOAL_MB_S = 200
_PIECE = 65_536
_SIZE = 4_000_000
_TIMINGS = 7
_CATALOG = load_catalog()
_IDS = frozenset(_CATALOG.services)
_TEXT = 'Please read the notes of "Tuesday" before we meet. ' * 6


@dataclass(frozen=True, slots=True)
class Body:
    """An answer of a service to a path, as JSON of about ``_SIZE`` bytes made of numbered objects."""

    what: str
    service: str
    path: bytes
    item: Callable[[int], object]
    matches: bool

    def made(self, size: int = _SIZE) -> bytes:
        count = size // len(json.dumps(self.item(0))) + 1
        return json.dumps({"value": [self.item(number) for number in range(count)]}).encode()


def _mail(number: int, **more: str) -> dict[str, object]:
    people = [{"emailAddress": {"name": "Grace", "address": "grace@example.com"}}] * 3
    return {
        "id": f"AAMkAGI2{number:056}",
        "subject": "Tuesday",
        "body": {"content": _TEXT},
        "toRecipients": people,
        **more,
    }


def _issue(number: int) -> dict[str, object]:
    here = f"https://api.github.com/repos/octocat/Hello-World/issues/{number}"
    links = {
        f"{name}_url": f"{here}/{name}{{/name}}" for name in ("labels", "comments", "events", "timeline")
    }
    user = {
        "login": "octocat",
        "url": "https://api.github.com/users/octocat",
        "html_url": "https://github.com/octocat",
    }
    return {
        "url": here,
        **links,
        "html_url": "https://github.com/octocat/Hello-World",
        "user": user,
        "body": _TEXT,
    }


def _linked_mail(number: int) -> dict[str, object]:
    return _mail(number, webLink=f"https://outlook.office365.com/owa/?ItemID=AAMkAGI2{number}")


BODIES = (
    Body("no address", "outlook", b"/v1.0/me/messages", _mail, matches=False),
    Body("addresses in other members", "outlook", b"/v1.0/me/messages", _linked_mail, matches=False),
    Body("GitHub's issues, 6 matches each", "github", b"/repos/o/r/issues", _issue, matches=True),
)


def _members(service: Service, path: bytes) -> Members:
    declared = declared_by(service)
    names = None if declared is None else declared.at(path)
    if names is None:
        raise RuntimeError(f"{service.type_id} declares nothing for {path!r}")
    arrival = Arrival(b"http://127.0.0.1:8080", b"/" + service.type_id.encode(), b"", _IDS)
    return Members(names, AddressMap(service, {}, arrival))


def _mb_per_s(body: Body) -> float:
    data, service = body.made(), _CATALOG.services[body.service]
    pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]

    def once() -> None:
        members = _members(service, body.path)
        size = sum(len(members.feed(piece)) for piece in pieces) + len(members.flush())
        if (size == len(data)) is body.matches:
            raise RuntimeError(f"{body.what}: {len(data)} bytes became {size}")

    return len(data) / min(timeit.Timer(once, timer=time.thread_time).repeat(_TIMINGS, 1)) / 1e6


def _most_held(body: Body) -> int:
    """Bytes not passed on, at the worst moment of a body that comes byte by byte."""
    data = body.made(20_000)
    members = _members(_CATALOG.services[body.service], body.path)
    held = most = 0
    for at in range(len(data)):
        held += 1
        if members.feed(data[at : at + 1]):
            held = _held_by(members)
        most = max(most, held)
    return most


def _held_by(members: Members) -> int:
    return len(members._kept) - members._gone


def _longest_value(body: Body) -> int:
    """Of its addresses, in bytes, with the quote in front."""
    found = [0]

    def look(value: object) -> None:
        if isinstance(value, str) and value.startswith("http"):
            found.append(len(value) + 1)
        below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for one in below:
            look(one)

    look(json.loads(body.made(20_000)))
    return max(found)


def _asked_ns(service: Service, path: bytes) -> float:
    """Asking whether answers to a path are looked into: all that a service without declared members pays."""
    route = match(parse_target(b"/" + service.type_id.encode() + path), b"GET", service)
    injection = prepare(service, resolve_host(route, None), token=Secret("token-" + "1" * 32))
    if looks_into(injection, path):
        raise RuntimeError(f"{service.type_id} is looked into")
    timer = timeit.Timer(lambda: looks_into(injection, path), timer=time.thread_time)
    return min(timer.repeat(_TIMINGS, 100_000)) / 100_000 * 1e9


def measure() -> dict[str, dict[str, float]]:
    """``{"mb_per_s", "most_held_bytes", "longest_value_bytes": {body: figure}, "asked_ns": {service: figure}}``."""
    return {
        "mb_per_s": {one.what: round(_mb_per_s(one)) for one in BODIES},
        "most_held_bytes": {one.what: _most_held(one) for one in BODIES},
        "longest_value_bytes": {one.what: _longest_value(one) for one in BODIES},
        "asked_ns": {"clickup": round(_asked_ns(_CATALOG.services["clickup"], b"/api/v2/user"))},
    }


def main() -> None:
    """Print the figures, or with ``--json`` as JSON."""
    found = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=2))
        return
    print(f"{'JSON with':34}{'MB/s a core':>12}{'held, most':>12}{'longest address':>17}")
    for one in BODIES:
        row = [found[key][one.what] for key in ("mb_per_s", "most_held_bytes", "longest_value_bytes")]
        print(f"{one.what:34}{row[0]:12,.0f}{row[1]:10} B{row[2]:15} B")
    print(f"goal without matches: {GOAL_MB_S} MB/s")
    for service, ns in found["asked_ns"].items():
        print(
            f"{service}, which declares no members, pays {ns:.0f} ns a request; its bodies are not looked at"
        )


if __name__ == "__main__":
    main()
