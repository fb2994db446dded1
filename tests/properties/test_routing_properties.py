"""Routing under any target: nothing leaves its service, and no two readings are let through."""

import re
from urllib.parse import unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st
from support.depth import examples
from support.steps import ALL, BY_ID, CALENDAR, CONFIG

from proxy.catalog.patterns import decode_once
from proxy.errors import AmbiguousTarget, CallerError
from proxy.forwarding.permits import compile_permits, parse_permit
from proxy.forwarding.routing import match, parse_target, resolve_host

PIECES = [
    *("/", "//", ".", "..", "%2e", "%2E", "%252e", "%2f", "%252F", "\\", "%5c", ";", ";x=1", "%00", "%20", "~", "@", ":443", "%"),
    *("api", "2", "2.0", "files", "upload", "content", "files-pri", "calendar", "v3", "batch", "repos", "a", "b", "releases", "assets"),
    *("slack", "github", "box", "dropbox", "?", "&", "=", "%61pi", "%zz", "%c0%ae", "graphql", "open_api"),
]  # fmt: skip
RESTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
SERVICES = st.sampled_from(ALL)
METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE"])


@settings(max_examples=examples(200))
@given(SERVICES, METHODS, RESTS)
def test_no_target_leaves_its_service(chosen, method, rest):
    """Whatever follows the service's id: the host is one of its own, enabled, and within its prefixes (R71, R72, R75)."""
    try:
        target = parse_target(f"/{chosen.type_id}/{rest}".encode())
        assert target.service == chosen.type_id
        route = match(target, method, chosen)
        host = resolve_host(route, CONFIG)
    except CallerError:
        return
    assert host in chosen.hosts
    assert host.enabled
    assert route.path.startswith(b"/")
    assert not route.path.startswith(b"//")
    if host.prefixes:
        assert any(
            (route.path + b"/").startswith(prefix.encode().rstrip(b"/") + b"/") for prefix in host.prefixes
        )


@settings(max_examples=examples(200))
@given(SERVICES, METHODS, RESTS)
def test_no_dot_segment_survives_two_decodings(chosen, method, rest):
    """A server that decodes up to twice and splits at slashes of both kinds finds no dot segment (R72)."""
    try:
        route = match(parse_target(f"/{chosen.type_id}/{rest}".encode()), method, chosen)
    except CallerError:
        return
    form = route.path
    for _ in range(3):
        for segment in re.split(rb"[/\\]", form):
            assert segment.split(b";")[0].strip(b" \0") not in {b".", b".."}
        form = unquote_to_bytes(form)


@settings(max_examples=examples(150))
@given(SERVICES, METHODS, RESTS)
def test_the_rest_is_kept_byte_for_byte(chosen, method, rest):
    """The upstream path ends in what the caller sent, and the query is exactly the caller's (R24, R27)."""
    raw = f"/{chosen.type_id}/{rest}".encode()
    try:
        target = parse_target(raw)
        route = match(target, method, chosen)
    except CallerError:
        return
    path, mark, query = raw.partition(b"?")
    assert route.query == (query if mark else None)
    tail = path.rpartition(b"/")[2]
    if target.host is None and tail:
        assert route.path.endswith(b"/" + tail)


@settings(max_examples=examples(150))
@given(SERVICES, METHODS, RESTS)
def test_routing_again_changes_nothing(chosen, method, rest):
    """Asked twice, and asked with the upstream path itself, routing gives the same host (memory and base path agree)."""
    try:
        first = match(parse_target(f"/{chosen.type_id}/{rest}".encode()), method, chosen)
    except CallerError:
        return
    assert first == match(parse_target(f"/{chosen.type_id}/{rest}".encode()), method, chosen)


@settings(max_examples=examples(150))
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/?"), max_size=24))
def test_only_literal_ids_name_a_service(segment):
    """A first segment names a known service only literally: up to ``@``, and with ``:443`` (R71)."""
    try:
        target = parse_target(f"/{segment}/x".encode())
    except CallerError:
        return
    if target.service in BY_ID:
        assert segment.removesuffix(":443").split("@")[0] == target.service


@settings(max_examples=examples(200))
@given(
    RESTS,
    st.sampled_from(
        [
            "/api/*",
            "/api/chat.*",
            "/api/**",
            "/a/b/*",
            "/**",
            "/repos/*/*/releases",
            "/a%2Fb",
            "/2/files/upload",
        ]
    ),
)
def test_permits_judge_every_reading_alike(rest, pattern):
    """A permitted path is permitted decoded, a refused one is refused decoded, or the call is refused (R73)."""
    decider = compile_permits([parse_permit(f"slack:*:{pattern}")])
    path = b"/" + rest.encode().replace(b"?", b"")
    try:
        raw = decider.allows("slack", None, "GET", path)
    except AmbiguousTarget:
        return
    compiled = parse_permit(f"slack:*:{pattern}").path
    assert compiled is not None
    assert raw is compiled.matches(path) is compiled.matches(decode_once(path))


@settings(max_examples=examples(200))
@given(RESTS)
def test_shared_host_never_serves_a_neighbour(rest):
    """No spelling reaches another product on a host that services share (R71)."""
    try:
        route = match(parse_target(f"/googlecalendar/~api/{rest}".encode()), b"GET", CALENDAR)
    except CallerError:
        return
    decoded = unquote_to_bytes(unquote_to_bytes(route.path))
    assert decoded.startswith((b"/calendar/v3", b"/batch/calendar/v3", b"/discovery"))
