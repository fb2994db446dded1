"""What is remembered on a kept connection cannot be seen in what is decided (R41, R84, R86, R89, R91).

Two ways for every request: through one ``Repeat`` that has seen everything before, and through the plain
functions, which have seen nothing. Heads, keys, grants, outgoing bytes and kinds of refusal must be the same.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import HttpVersion
from aiohttp.http_parser import RawRequestMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from support import steps
from support.depth import examples
from support.steps import ALL, BY_ID, CONFIG, HOST, KEY, OTHER_KEY, record, ring
from yarl import URL

from proxy.catalog.model import Host, KeyPlace, Service
from proxy.catalog.origin import OriginTemplate
from proxy.errors import RequestError
from proxy.forwarding.gate import Limits, gate
from proxy.forwarding.injection import Injection, prepare
from proxy.forwarding.keys import KeyRing, Presented, find_key
from proxy.forwarding.repeat import Repeat
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import match, parse_target, resolve_host
from proxy.keys import digest
from proxy.secret import Secret

LIMITS = Limits(request_line=400, header_bytes=2000, headers=12)
PEER = "192.0.2.7"

# A service with every kind of place, a host that takes some calls without a token, and odd names allowed.
ODD = Service(
    type_id="odd",
    title="odd",
    docs="",
    console="",
    verified="documents",
    source_file="-",
    hosts=(
        Host(
            "api",
            OriginTemplate("https://odd.example"),
            none_when=steps.patterns("/public/**"),
            none_when_query=("sig",),
        ),
        Host("bare", OriginTemplate("https://bare.odd.example"), token="none"),
    ),
    key_places=(
        KeyPlace("header", "X-Odd-Key", replace=True),
        KeyPlace("query", "key", replace=True),
        KeyPlace("query", "tok"),
    ),
    header_underscores=True,
    headers=(("X-Default", "1"),),
)
SERVICES = {**BY_ID, "odd": ODD}
NAMES = sorted(SERVICES)


def basic(key: bytes) -> bytes:
    return b"Basic " + base64.b64encode(b"user:" + key)


KEYS = (KEY, OTHER_KEY)
RECORDS = {
    "both": (record("*"), record("slack", key=OTHER_KEY)),
    "first": (record("*"),),
    "second": (record("*", key=OTHER_KEY),),
    "revoked": (record("*", revoked_at=1.0), record("*", key=OTHER_KEY)),
    "short": (record("*", expires_at=50.0), record("*", key=OTHER_KEY, expires_at=20.0)),
    "nobody": (),
}


def field_values() -> st.SearchStrategy[tuple[bytes, bytes]]:
    keys = st.sampled_from(KEYS)
    return st.one_of(
        st.tuples(st.just(b"Authorization"), keys.map(lambda k: b"Bearer " + k)),
        st.tuples(st.just(b"Authorization"), keys.map(basic)),
        st.tuples(st.sampled_from([b"X-Api-Key", b"x-goog-api-key", b"X-Odd-Key", b"x_odd_key", b"Access-Token", b"X-SFDC-Session"]), keys),
        st.tuples(st.sampled_from([b"X-Note", b"Referer", b"X.Odd"]), st.one_of(keys, keys.map(lambda k: b"a" + k + b"b"), keys.map(basic), st.just(b"plain"))),
        st.sampled_from(
            [
                (b"Connection", b"close"), (b"Connection", b"X-Note"), (b"TE", b"trailers"), (b"Content-Length", b"3"),
                (b"Transfer-Encoding", b"chunked"), (b"Accept", b"*/*"), (b"X-Default", b"2"), (b"X_Odd", b"1"),
                (b"Sec-Fetch-Site", b"cross-site"), (b"Host", b"second"), (b"X-Bad", b"a\x00"), (b"Expect", b"200-ok"),
                (b"X-Percent", KEY.replace(b"_", b"%5F")), (b"Cookie", b"a=b"),
            ]
        ),
    )  # fmt: skip


def often(usual: Any, other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly one of ``usual``: a request that is refused early tells little."""
    return st.integers(0, 4).flatmap(lambda n: st.sampled_from(usual) if n else other)


CREDENTIALS = often([steps.bearer(), steps.bearer(OTHER_KEY)], field_values())
FIELDS = st.builds(
    lambda credential, more: (credential, *more),
    CREDENTIALS,
    st.lists(field_values().filter(lambda field: field[0] != b"Authorization"), max_size=2),
) | (st.just(()) | st.lists(field_values(), max_size=4).map(tuple))
QUERIES = st.one_of(
    st.just(""),
    st.just("?"),
    st.sampled_from(["?a=1", "?a=%zz", "?sig=1", "?key=", "?a=1&a=2", "?key=nothing"]),
    st.builds(
        lambda name, key, escape: (
            f"?a=1&{name}={key.decode() if not escape else key.decode().replace('_', '%5f')}"
        ),
        st.sampled_from(["key", "tok", "token", "oauth_token", "x", "KEY", "k%65y"]),
        st.sampled_from(KEYS),
        st.booleans(),
    ),
)
PATHS = often(
    ["/x", "/public/a", "/api.test", "/~api/x", "/2/files/upload"],
    st.sampled_from(
        [
            "",
            "/",
            "/a%2Fb",
            "/../up",
            "/~bare/x",
            "/~none/x",
            "/a" + KEY.decode(),
            "/a#b",
            "/\u20ac",
            "/" + "l" * 500,
        ]
    ),
)
TARGETS = st.builds(
    lambda name, path, query: f"/{name}{path}{query}",
    often(["odd", "slack", "tiktok", "salesforce"], st.sampled_from([*NAMES, "nothing"])),
    PATHS,
    QUERIES,
) | st.builds(
    lambda place, key: f"{place}={key.decode()}",
    st.sampled_from(
        ["/odd/x?key", "/odd/x?tok", "/odd/public/a?key", "/slack/x?token", "/salesforce/x?oauth_token"]
    ),
    st.sampled_from(KEYS),
)
RINGS = often(["both", "short"], st.sampled_from(sorted(RECORDS)))
TIMES = st.sampled_from([10.0, 20.0, 30.0, 50.0])
TOKENS = st.sampled_from(["token-1", "token-2"])


@dataclass(frozen=True)
class Asked:
    """One request, and what the world is like when it comes."""

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    version: tuple[int, int]
    ring: str
    now: float
    token: str


def requests() -> st.SearchStrategy[list[Asked]]:
    """Sequences in which most things stay what they were: that is where memory could show."""
    fresh = st.builds(
        Asked,
        often(["GET", "POST"], st.sampled_from(["OPTIONS", "HEAD", "G T"])),
        TARGETS,
        FIELDS,
        often([(1, 1)], st.sampled_from([(1, 0), (2, 0)])),
        RINGS,
        TIMES,
        TOKENS,
    )
    change = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"target": TARGETS}),
        st.fixed_dictionaries({"method": st.sampled_from(["GET", "POST", "OPTIONS"])}),
        st.fixed_dictionaries({"fields": FIELDS}),
        st.fixed_dictionaries({"ring": RINGS}),
        st.fixed_dictionaries({"now": TIMES}),
        st.fixed_dictionaries({"token": TOKENS}),
    )

    def follow(first: Asked, changes: list[dict[str, Any]]) -> list[Asked]:
        sequence = [first]
        for each in changes:
            # one in four goes back to the beginning: A, B, A
            base = first if len(sequence) % 4 == 3 else sequence[-1]
            sequence.append(replace(base, **each))
        return sequence

    return st.builds(follow, fresh, st.lists(change, max_size=10))


def message(asked: Asked) -> RawRequestMessage:
    pairs = (HOST, *asked.fields)
    headers: CIMultiDict[str] = CIMultiDict()
    return RawRequestMessage(
        asked.method,
        asked.target,
        HttpVersion(*asked.version),
        CIMultiDictProxy(headers),
        pairs,
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL("/"),
    )


class World:
    """Key rings and injections are the same objects as long as nothing changed, as in the running proxy."""

    def __init__(self) -> None:
        self.rings = {name: ring(*records) for name, records in RECORDS.items()}
        self._injections: dict[tuple[str, str, str], Injection] = {}

    def injection(self, service: Service, host: Host, token: str) -> Injection:
        place = (service.type_id, host.name, token)
        if place not in self._injections:
            self._injections[place] = prepare(service, host, token=Secret(token), config=CONFIG)
        return self._injections[place]


Steps = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]


def plain() -> Steps:
    return (
        lambda m: gate(m.method, m.path, m.version, m.raw_headers, LIMITS),
        find_key,
        lambda presented, keys, now: keys.authenticate(presented.key, now=now, peer_ip=PEER),
        request_head,
    )


def remembering(repeat: Repeat) -> Steps:
    return (
        lambda m: repeat.head(m, LIMITS),
        repeat.presented,
        lambda presented, keys, now: repeat.grant(presented, keys, now, PEER),
        repeat.outgoing,
    )


def decided(asked: Asked, world: World, ways: Steps) -> list[object]:
    """What the steps say, one after another, up to the refusal that ends them."""
    to_head, to_presented, to_grant, to_outgoing = ways
    found: list[object] = []
    try:
        head = to_head(message(asked))
        found.append(head)
        target = parse_target(head.target)
        service = SERVICES.get(target.service)
        presented = to_presented(head, service, target.query)
        found.append(tuple(presented))
        found.append(to_grant(presented, world.rings[asked.ring], asked.now))
        if service is None:
            return found
        route = match(target, head.method, service)
        injection = world.injection(service, resolve_host(route, CONFIG), asked.token)
        found.append(to_outgoing(head, route, injection, presented))
        found.append(to_outgoing(head, route, injection, presented))  # as after a 401
    except RequestError as error:
        found.append((type(error), error.detail, error.service))
    return found


@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_memory_does_not_show(sequence):
    """Whatever came before on the connection, each request is decided as if it were the first (R41, R84, R89)."""
    world, repeat = World(), Repeat()
    for number, asked in enumerate(sequence):
        expected = decided(asked, world, plain())
        assert decided(asked, world, remembering(repeat)) == expected, (number, asked)
        grant = expected[2] if len(expected) > 2 else None
        if grant is not None and not isinstance(grant, tuple):
            assert grant.record.is_live(asked.now)
            assert grant.record.digest == digest(bytes(expected[1][0]))


@settings(max_examples=examples(300), deadline=None)
@given(requests(), st.sampled_from(KEYS), st.integers(0, 9))
def test_a_key_found_elsewhere_leaves_no_trace(sequence, key, when):
    """A key that the memory did not find itself (in a body) is authenticated for its own request only (R41, R84)."""
    world, repeat = World(), Repeat()
    for number, asked in enumerate(sequence):
        if number % 10 == when or number == 1:
            other = Presented(key)
            keys: KeyRing = world.rings[asked.ring]
            ways = plain(), remembering(repeat)
            assert _attempt(ways[1][2], other, keys, asked.now) == _attempt(
                ways[0][2], other, keys, asked.now
            )
            try:
                head = gate(asked.method, asked.target, asked.version, (HOST, *asked.fields), LIMITS)
                route = match(
                    parse_target(head.target), head.method, SERVICES[parse_target(head.target).service]
                )
                injection = world.injection(route.service, resolve_host(route, CONFIG), asked.token)
            except (RequestError, KeyError):
                continue
            assert _attempt(ways[1][3], head, route, injection, other) == _attempt(
                ways[0][3], head, route, injection, other
            )
        assert decided(asked, world, remembering(repeat)) == decided(asked, world, plain()), (number, asked)


def _attempt(step: Callable[..., Any], *arguments: object) -> object:
    try:
        return step(*arguments)
    except RequestError as error:
        return (type(error), error.detail)


def test_the_same_bytes_give_the_same_head():
    """A request whose every byte is that of the one before gets the very same head: the short ways are taken."""
    repeat, world = Repeat(), World()
    asked = Asked("GET", "/slack/x", (steps.bearer(),), (1, 1), "both", 10.0, "t")
    heads = [repeat.head(message(asked), LIMITS) for _ in range(2)]
    assert heads[0] is heads[1]
    first = repeat.presented(heads[0], SERVICES["slack"], None)
    assert repeat.presented(heads[0], SERVICES["slack"], None) is first
    assert repeat.grant(first, world.rings["both"], 10.0, PEER) is repeat.grant(
        first, world.rings["both"], 11.0, PEER
    )
    other = repeat.head(message(replace(asked, target="/slack/y")), LIMITS)
    assert other is not heads[0]
    assert other == heads[0]._replace(target=b"/slack/y")
    assert {service.type_id for service in ALL} <= set(SERVICES)
