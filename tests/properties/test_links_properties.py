"""Addresses in answers under any input: where the new ones lead, and what of a body is touched."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.depth import examples
from support.steps import record

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Service
from proxy.errors import RequestError
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.links.members import Members, Names
from proxy.forwarding.routing import match, parse_target, resolve_host, rooted_target

pytestmark = pytest.mark.traced

SERVICES = load_catalog().services
IDS = frozenset(SERVICES)
BASE = b"https://proxy.example:8443"
# Segments that rules, base paths and roots of some service are about, and hostile ones.
SEGMENTS = st.sampled_from(
    [
        *("", "api", "v1", "v1.0", "2", "2.0", "v3", "files", "upload", "content", "files-pri", "repos", "o", "releases"),
        *("1", "assets", "batch", "discovery", "apis", "drive", "calendar", "graphql", "_api", "sites", "services", "data"),
        *("github", "slack@x", "~api", "~~1.a.b", "-", "health", "%2e%2e", "..", ".", "%2F", "a%20b", "a;b", "x:y", "users('a')"),
        *("oauth2", "dms-uploads", "open_api", "crm", "webmasters", "tax", "files-edu", "uploadSession"),
    ]
)  # fmt: skip
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "".join(f"/{part}" for part in parts))
QUERIES = st.sampled_from(["", "?", "?a=1&b=%2F", "?$skiptoken=X%27abc", "?next=https://evil.example/"])


def config_of(service: Service) -> Mapping[str, str]:
    """An account of the service, as its file's examples have it."""
    return {param.name: param.example for param in service.params.values() if param.example}


def origins(service: Service) -> list[str]:
    found = []
    for host in service.hosts:
        try:
            found.append(str(host.origin.build(config_of(service), service=service.type_id)))
        except RequestError:
            continue
    return found


def arrivals(service: Service) -> st.SearchStrategy[Arrival]:
    name = f"/{service.type_id}".encode()
    return st.sampled_from(
        [
            Arrival(BASE, name, b"", IDS),
            Arrival(BASE, name + b"@work", b"", IDS),
            Arrival(BASE, b"", b"", IDS),
            Arrival(BASE, name, b"/api/v3", IDS),
        ]
    )


@pytest.mark.parametrize("type_id", sorted(SERVICES))
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mapped_address_leads_to_the_same_place(type_id: str, data: st.DataObject) -> None:
    """For every shipped service and host: routing what an address became gives its very host, path and query."""
    service, config = SERVICES[type_id], config_of(SERVICES[type_id])
    arrival = data.draw(arrivals(service))
    origin = data.draw(st.sampled_from(origins(service)))
    path, query = data.draw(PATHS), data.draw(QUERIES)
    new = AddressMap(service, config, arrival).replaced(f"{origin}{path}{query}".encode())
    if new is None or path in {"", "/"}:
        return  # the bare origin is what SDKs build upon: it is mapped even where nothing is served at it
    raw = new.removeprefix(BASE)
    assert raw.startswith(arrival.prefix)
    method = data.draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD"]))
    target = parse_target(raw) if parse_target(raw).service in SERVICES else rooted_target(raw, type_id)
    assert target.service == type_id
    route = match(target, method, service)
    host = resolve_host(route, config)
    assert str(host.origin.build(config, service=type_id)) == origin
    assert route.path == path.encode()
    assert route.query == (query[1:].encode() if query else None)


@pytest.mark.parametrize("type_id", sorted(SERVICES))
def test_every_host_has_addresses(type_id: str) -> None:
    """On every enabled host of every shipped service something is mapped: no host is forgotten."""
    service, config = SERVICES[type_id], config_of(SERVICES[type_id])
    addresses = AddressMap(service, config, Arrival(BASE, b"/" + type_id.encode()))
    for host in service.hosts:
        try:
            origin = str(host.origin.build(config, service=type_id))
        except RequestError:
            assert host.origin.params
            continue
        places = [*(prefix.rstrip("/") + "/x" for prefix in host.prefixes), host.base_path + "/zz/9"]
        mapped = [addresses.replaced(f"{origin}{place}".encode()) for place in places]
        assert not host.enabled or any(mapped), f"{host.name}: {places}"


# --- bodies ---------------------------------------------------------------------------------------------

GITHUB = SERVICES["github"]
MAP = AddressMap(
    GITHUB,
    {},
    Arrival(b"http://127.0.0.1:8080", b"/github@a"),
    Capabilities(b"s").minting(GITHUB, record("*"), 0.0),
)
NOWHERE = AddressMap(SERVICES["slack"], {}, Arrival(b"http://127.0.0.1:8080", b"/slack"))
"""Knows none of the addresses below: bodies keep their length."""
NAMES = ["url", "*_url", "@odata.nextLink", "urls.*", "session_endpoints.*"]
ADDRESSES = st.sampled_from(
    [
        "https://api.github.com/repos/o/r{/sha}",
        "https://api.github.com",
        "https://uploads.github.com/x?name=a&b=\u00e9",
        "https://uploads.github.com/x?a=1&b=2",
        "https://api.github.com.evil.example/x",
        "https://api.github.com:444/x",
        "https://me@api.github.com/",
        "https://api.github.com\\x",
        "https://codeload.github.com/o/r/zip?token=A",
        "http://api.github.com/x",
        "https://github.com/o/r",
        "httpx",
        "see https://api.github.com/x",
        "",
    ]
)
KEYS = st.one_of(
    st.sampled_from(["url", "a_url", "_url", "xurl", "url_", "@odata.nextLink", "urls", "session_endpoints"]),
    st.text(max_size=4),
)
TEXTS = st.one_of(
    ADDRESSES,
    st.sampled_from(
        ['"url": "https://api.github.com/x"', '\\"url":"https://api.github.com/x', '": "http', "{[\\"]
    ),
    st.text(max_size=8),
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.none(), st.integers(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(st.tuples(KEYS, inner), max_size=4).map(lambda pairs: ("{", pairs))
    ),
    max_leaves=16,
)  # fmt: skip


class Writer:
    """Writes a value as JSON with drawn blanks and escapes, as it is and as the mapping should leave it."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.before: list[str] = []
        self.after: list[str] = []

    def both(self, text: str) -> None:
        self.before.append(text)
        self.after.append(text)

    def blank(self) -> None:
        self.both(self._data.draw(st.sampled_from(["", "", " ", "\n\t "])))

    def string(self, text: str, *, counts: bool) -> None:
        slash = self._data.draw(st.sampled_from(["/", "/", "\\/", "\\u002f"]))
        style = self._data.draw(st.sampled_from(["plain", "plain", "ascii", "all"]))
        units = [self._unit(char, slash, style) for char in text]
        found = MAP.find(text.encode("utf-8", "surrogatepass")) if counts and text.isascii() else None
        self.before.append('"' + "".join(units) + '"')
        if found is None:
            self.after.append(self.before[-1])
        else:
            lead = found.lead.decode().replace("/", slash)
            self.after.append('"' + lead + "".join(units[found.length :]) + '"')

    @staticmethod
    def _unit(char: str, slash: str, style: str) -> str:
        if char == "/":
            return slash
        if style == "all" and ord(char) < 0x10000:
            return f"\\u{ord(char):04x}"
        return json.dumps(char, ensure_ascii=style != "plain")[1:-1]

    def value(self, value: Any, name: str | None, parent: str | None) -> None:
        if isinstance(value, str):
            whole = parent in {"urls", "session_endpoints"} and name is not None
            declared = name is not None and (name in {"url", "@odata.nextLink"} or name.endswith("_url"))
            self.string(value, counts=whole or declared)
        elif isinstance(value, tuple):
            self.both("{")
            for number, (key, inner) in enumerate(value[1]):
                self.both("," if number else "")
                self.blank()
                self.string(key, counts=False)
                self.blank()
                self.both(":")
                self.blank()
                self.value(inner, key, name)
            self.blank()
            self.both("}")
        elif isinstance(value, list):
            self.both("[")
            for number, inner in enumerate(value):
                self.both("," if number else "")
                self.blank()
                self.value(inner, None, None)
            self.both("]")
        else:
            self.both(json.dumps(value))


def through(body: bytes, cuts: list[int]) -> bytes:
    members = Members(Names(NAMES), MAP)
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    pieces = [body[start:end] for start, end in pairwise(places)]
    return b"".join([members.feed(piece) for piece in pieces if piece]) + members.flush()


CUTS = st.lists(st.integers(0, 600), max_size=40)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), value=VALUES, cuts=CUTS)
def test_declared_members_and_nothing_else(data: st.DataObject, value: Any, cuts: list[int]) -> None:
    """The scanner does what a reader that knows every token does: any nesting, blanks, escapes and pieces."""
    writer = Writer(data)
    writer.value([value], None, None)
    before = "".join(writer.before).encode("utf-8", "surrogatepass")
    after = "".join(writer.after).encode("utf-8", "surrogatepass")
    assert through(before, cuts) == after


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), value=VALUES, cuts=CUTS)
def test_no_more_than_one_value_is_held(data: st.DataObject, value: Any, cuts: list[int]) -> None:
    """Whatever has come, at most one string of it waits, or the few bytes that may be the beginning of one (R56)."""
    writer = Writer(data)
    writer.value([value], None, None)
    body = "".join(writer.before).encode("utf-8", "surrogatepass")
    longest = max(
        (len(one.encode("utf-8", "surrogatepass")) for one in writer.before if one[0:1] == '"'), default=0
    )
    members = Members(Names(NAMES), NOWHERE)
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    passed = 0
    for start, end in pairwise(places):
        passed += len(members.feed(body[start:end]))
        assert end - passed <= max(longest, len(rb'"\u0068\u0074\u0074\u0070') - 1)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(
            [b'"url"', b'"', b":", b"{", b"}", b"[", b"]", b",", b" ", b"\\", b'"https://api.github.com/x"', b"https://",
             b'"urls":{', b'"a":"https://api.github.com', b"\\u0068ttp", b"x" * 300, b"\xff", b'"x_url":"']
        ),
        max_size=40,
    ),
    CUTS,
)  # fmt: skip
def test_pieces_make_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    """Bytes that are no JSON neither raise nor lose anything, and give the same however they are cut."""
    body = b"[" + b"".join(parts)
    whole = through(body, [])
    assert through(body, cuts) == whole
    assert whole.replace(b"http://127.0.0.1:8080/github@a", b"https://api.github.com") == body


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=80), CUTS)
def test_what_begins_otherwise_passes_unread(rest: bytes, cuts: list[int]) -> None:
    """A page, a text or a protected script that is called JSON is not touched."""
    for first in (b"<", b")]}',\n", b'"', b"1", b"data: "):
        body = first + b'{"url":"https://api.github.com/x"}' + rest
        assert through(body, cuts) == body
