"""Rewriting under any request: what leaves has one reading, and the only credential in it is ours."""

import base64
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from support.depth import examples
from support.steps import ALL, BY_ID, CONFIG, HOST, KEY, TOKEN, bearer, injection, outgoing, split_head
from support.strict import requests

from proxy.errors import CallerError
from proxy.forwarding.framing import answer_head
from proxy.forwarding.gate import Limits, gate, same_fields
from proxy.forwarding.headers import HOP_BY_HOP, REQUEST_PREFIXES, fold
from proxy.forwarding.keys import Presented
from proxy.forwarding.rewrite import request_head, request_head_with, tail_for_all
from proxy.forwarding.routing import match, parse_target

FOREIGN = b"caller-own-credential"
ENCODED_KEY = b"%63" + KEY[1:]
BASIC = base64.b64encode(b"x:" + KEY)

NAMES = st.sampled_from(
    [*(b"Authorization", b"authorization", b"AUTHORIZATION", b"Authorization_", b"X-Api-Key", b"x_api_key", b"X.Api.Key", b"Cookie"),
     *(b"X-Goog-Api-Key", b"X-SFDC-Session", b"x_sfdc_session", b"Access-Token", b"Connection", b"Connection", b"X-Hop", b"X-Other", b"TE"),
     *(b"X-Forwarded-For", b"X_Forwarded_Host", b"Forwarded", b"Via", b"Proxy-Authorization", b"Keep-Alive", b"Trailer", b"Upgrade"),
     *(b"Content-Length", b"Content_Length", b"Transfer-Encoding", b"Host", b"Expect", b"Content-Type", b"Accept", b"X-GitHub-Api-Version")]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [*(KEY, b"Bearer " + KEY, b"token " + KEY, b"Basic " + BASIC, b"a=" + KEY, ENCODED_KEY, FOREIGN, b"Bearer " + FOREIGN, b""),
         *(b"close", b"X-Hop", b"close, x-other", b"authorization, host", b"content-length", b"keep-alive", b"trailers", b"chunked"),
         *(b"5", b"05", b"gzip", b"100-continue", b"a\r\nX-Smuggled: 1", b"\xff\x80", b"websocket")]
    ),
    st.binary(max_size=12),
)  # fmt: skip
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=7)
QUERIES = st.lists(
    st.sampled_from(
        [*("a=1", "a=%31", "", "=", "+", "%zz", "x", f"token={KEY.decode()}", f"TOKEN={KEY.decode()}", f"key={KEY.decode()}"),
         *(f"%74oken={ENCODED_KEY.decode()}", f"other={KEY.decode()}", f"other={ENCODED_KEY.decode()}", "token=", f"oauth_token={KEY.decode()}")]
    ),
    max_size=5,
).map("&".join)  # fmt: skip
TARGETS = st.builds(
    "/{}/{}{}".format,
    st.sampled_from([each.type_id for each in ALL]),
    st.sampled_from(
        [
            "x",
            "api/x",
            "2/files/upload",
            "services/async/1",
            "open_api/v1",
            "~login/x",
            KEY.decode(),
            ENCODED_KEY.decode(),
        ]
    ),
    st.one_of(st.just(""), QUERIES.map("?{}".format)),
)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"])
AUTHORITIES = {
    each.type_id: {host.origin.build(CONFIG, service="-").authority.encode() for host in each.hosts}
    for each in ALL
}


def sent(method, target, fields):
    try:
        return outgoing(method, target, *fields)
    except CallerError:
        return None


@settings(max_examples=examples(200))
@given(METHODS, TARGETS, FIELDS, st.booleans())
def test_what_leaves_has_one_reading(method, target, fields, with_key):
    """Whatever a caller sends, the outgoing head parses strictly in exactly one way, with its framing (R1-R4, R8)."""
    raw = sent(method, target, [bearer(), *fields] if with_key else fields)
    if raw is None:
        return
    message = requests(raw).messages[0]
    assert b"\r\nX-Smuggled" not in raw
    came = gate(method, target, (1, 1), (HOST, *([bearer()] if with_key else []), *fields), Limits())
    assert message.framing == came.body


@settings(max_examples=examples(200))
@given(METHODS, TARGETS, FIELDS, st.booleans())
def test_only_our_credential_leaves(method, target, fields, with_key):
    """The authority is the service's; no key in any spelling, no credential of the caller's, one of ours (R30, R31, R36)."""
    raw = sent(method, target, [bearer(), *fields] if with_key else fields)
    if raw is None:
        return
    assert KEY not in raw
    assert KEY not in unquote_to_bytes(raw)
    assert BASIC not in raw
    _, out = split_head(raw)
    assert out[0][0] == b"Host"
    service = target.split("/")[1]
    assert out[0][1] in AUTHORITIES[service]
    general = {b"authorization", b"x-api-key", b"x-goog-api-key"}
    places = general | {fold(place.name.encode()) for place in BY_ID[service].key_places}
    for name, value in out:
        if fold(name) in places:
            assert value in {b"Bearer " + TOKEN.encode(), TOKEN.encode()}
    assert (
        sum(
            pair in {(b"Authorization", b"Bearer " + TOKEN.encode()), (b"Access-Token", TOKEN.encode())}
            for pair in out
        )
        == 1
    )


@settings(max_examples=examples(200))
@given(METHODS, TARGETS, FIELDS)
def test_what_stops_here_stops(method, target, fields):
    """Hop-by-hop fields, those named in Connection and what is said about the way stay, look-alikes too (R28, R29, R34)."""
    raw = sent(method, target, [bearer(), *fields])
    if raw is None:
        return
    came = gate(method, target, (1, 1), (HOST, bearer(), *fields), Limits())
    ours = {
        b"host",
        b"authorization",
        b"access-token",
        b"content-length",
        b"transfer-encoding",
        b"te",
        b"connection",
    }
    for name, value in split_head(raw)[1]:
        folded = fold(name)
        if folded in {b"te", b"connection"}:
            assert value in {b"trailers", b"TE"}
            continue
        if folded not in ours:
            assert (
                folded not in {fold(each) for each in came.connection_names}
                or folded == b"x-github-api-version"
            )
            assert folded not in HOP_BY_HOP
            assert folded not in {b"cookie", b"forwarded", b"via", b"expect"}
            assert not folded.startswith(REQUEST_PREFIXES)


@settings(max_examples=examples(150))
@given(
    st.lists(
        st.tuples(st.sampled_from([b"A", b"a", b"X-B", b"Accept", b"User-Agent"]), st.binary(max_size=8)),
        max_size=8,
    )
)
def test_other_fields_pass_untouched(fields):
    """Fields that concern the service keep case, order, number and bytes (R14, R38)."""
    raw = sent("GET", "/slack/x", [bearer(), *fields])
    if raw is not None:
        assert fields == [pair for pair in split_head(raw)[1] if pair[0] not in {b"Host", b"Authorization"}]


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"Connection",
                b"CONNECTION",
                b"X-Hop",
                b"x-other",
                b"Keep-Alive",
                b"Set-Cookie",
                b"Proxy-Status",
                b"Via",
                b"ETag",
            ]
        ),
        st.sampled_from([b"close", b"close, X-Hop", b"X-Other", b"", b",", b"etag,via", b"set-cookie", b"1"]),
    ),
    max_size=8,
)


def returned(raw):
    names, values = [name for name, _ in raw], [value for _, value in raw]
    head = answer_head(version="1.1", status=200, reason=b"OK", names=names, values=values, method=b"GET")
    return [tuple(line.split(b": ", 1)) for line in head.lines.split(b"\r\n")[:-1]]


@settings(max_examples=examples(200))
@given(ANSWERS)
def test_answer_filter_drops_and_settles(raw):
    """Nothing that Connection names comes back, the order stays, and filtering twice only adds another Via (R28, R29)."""
    once = returned(raw)
    named = {
        part.strip().lower()
        for name, value in raw
        if name.lower() == b"connection"
        for part in value.split(b",")
    }
    assert not named & {name.lower() for name, _ in once[:-1]}
    remaining = iter(raw)
    assert all(pair in remaining for pair in once[:-1])
    assert [*once, once[-1]] == returned(once)


@settings(max_examples=examples(200))
@given(METHODS, METHODS, st.sampled_from(ALL), st.tuples(QUERIES, QUERIES), FIELDS)
def test_the_short_way_leads_to_the_same_bytes(first, second, chosen, queries, fields):
    """On a kept connection, what is reused for the next request gives exactly the bytes of the long way (R41)."""
    targets = [f"/{chosen.type_id}/x?{query}" for query in queries]
    presented = Presented(KEY)
    try:
        came = [
            gate(method, target, (1, 1), (HOST, bearer(), *fields), Limits())
            for method, target in zip((first, second), targets, strict=True)
        ]
        routes = [match(parse_target(each.target), each.method, chosen) for each in came]
        shared = injection(routes[0])
        before = request_head(came[0], routes[0], shared, presented)
    except CallerError:
        return
    assert came[0] == same_fields(came[0], first, targets[0])
    if routes[0].host is not routes[1].host:
        return
    tail = tail_for_all(came[0], routes[0].path, shared, before)
    short = None if tail is None else request_head_with(tail, came[1], routes[1], shared, presented)
    if short is not None:
        assert short == request_head(came[1], routes[1], shared, presented)
