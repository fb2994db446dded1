"""WebSocket handshakes and the answers to them: one reading or none (RFC 6455 §4, R66)."""

import base64
import contextlib

import pytest
from support import steps
from support.websockets import ACCEPT, NONCE

from proxy.catalog.model import KeyPlace
from proxy.errors import (
    AmbiguousKey,
    BadRequest,
    NotPermitted,
    RequestError,
    UnsupportedWebSocket,
    UpgradeUnsupported,
)
from proxy.forwarding.answer import AnswerReader
from proxy.forwarding.handshake import without_key
from proxy.forwarding.keys import find_key
from proxy.forwarding.permits import check, compile_permits, effective_method, parse_permit
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import match, parse_target

FIELDS = {
    b"Connection": b"Upgrade",
    b"Upgrade": b"websocket",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Key": NONCE,
}


def head(method="GET", version=(1, 1), *, more=(), **changed):
    """A handshake, with fields replaced by name (``_`` for ``-``), or removed by None."""
    fields = {**FIELDS, **{name.replace("_", "-").encode(): value for name, value in changed.items()}}
    given = [(name, value) for name, value in fields.items() if value is not None]
    return steps.head(method, "/svc/live", *given, *more, version=version)


SERVICE = steps.service(
    "svc",
    steps.host("api", "api.svc.test"),
    key_places=(KeyPlace("query", "key"), KeyPlace("header", "Sec-WebSocket-Protocol")),
)


def outgoing(found, service=SERVICE):
    """The head that goes to the service."""
    target = parse_target(found.target)
    presented = find_key(found, service, target.query)
    route = match(target, found.method, service)
    return request_head(found, route, steps.injection(route), presented)


def judge(found, permit, service=SERVICE):
    """Refuses what a key with that permit may not open."""
    route = match(parse_target(found.target), found.method, service)
    method = effective_method(found, route.query, service)
    check(compile_permits([parse_permit(permit)]), service, None, method, route.path)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Upgrade": b"WebSocket"},
        {"Connection": b"keep-alive, upgrade"},
        {"Sec_WebSocket_Key": base64.b64encode(bytes(16))},
    ],
)
def test_handshakes_are_known(changed):
    """What browsers and libraries send is taken for a handshake (R66)."""
    assert head(**changed).websocket


@pytest.mark.parametrize(
    ("method", "changed", "more", "error"),
    [
        pytest.param("POST", {}, (), BadRequest, id="post"),
        pytest.param("HEAD", {}, (), BadRequest, id="head"),
        pytest.param("get", {}, (), BadRequest, id="another-method"),
        pytest.param("GET", {}, [(b"Content-Length", b"3")], BadRequest, id="length"),
        pytest.param("GET", {}, [(b"Transfer-Encoding", b"chunked")], BadRequest, id="chunked"),
        pytest.param("GET", {}, [(b"Expect", b"100-continue")], BadRequest, id="expect"),
        pytest.param("GET", {"Sec_WebSocket_Key": None}, (), BadRequest, id="no-key"),
        pytest.param("GET", {"Sec_WebSocket_Key": b""}, (), BadRequest, id="empty-key"),
        pytest.param("GET", {"Sec_WebSocket_Key": b"AAAA"}, (), BadRequest, id="short-key"),
        pytest.param("GET", {"Sec_WebSocket_Key": NONCE[:-1]}, (), BadRequest, id="cut-key"),
        pytest.param("GET", {"Sec_WebSocket_Key": b"*" + NONCE}, (), BadRequest, id="junk-in-key"),
        pytest.param("GET", {}, [(b"Sec-WebSocket-Key", NONCE)], BadRequest, id="two-keys"),
        pytest.param("GET", {}, [(b"Sec-WebSocket-Version", b"13")], BadRequest, id="two-versions"),
        pytest.param("GET", {"Sec_WebSocket_Version": None}, (), UnsupportedWebSocket, id="no-version"),
        pytest.param("GET", {"Sec_WebSocket_Version": b"8"}, (), UnsupportedWebSocket, id="old-version"),
        pytest.param("GET", {"Sec_WebSocket_Version": b"013"}, (), UnsupportedWebSocket, id="odd-version"),
        pytest.param("GET", {"Sec_WebSocket_Version": b"13, 8"}, (), UnsupportedWebSocket, id="versions"),
        pytest.param("GET", {"Upgrade": b"websocket, h2c"}, (), UpgradeUnsupported, id="list"),
        pytest.param("GET", {"Upgrade": b"websocket/13"}, (), UpgradeUnsupported, id="version-in-token"),
        pytest.param("GET", {"Upgrade": b"websockets"}, (), UpgradeUnsupported, id="look-alike"),
        pytest.param("GET", {"Upgrade": b""}, (), UpgradeUnsupported, id="empty"),
        pytest.param("GET", {}, [(b"Upgrade", b"h2c")], UpgradeUnsupported, id="second-line"),
        pytest.param("GET", {}, [(b"Upgrade", b"websocket")], UpgradeUnsupported, id="twice"),
        pytest.param(
            "GET", {"Connection": b"Upgrade, Sec-WebSocket-Key"}, (), BadRequest, id="key-named-in-connection"
        ),
        pytest.param(
            "GET", {}, [(b"Connection", b"sec-websocket-protocol")], BadRequest, id="named-on-another-line"
        ),
    ],
)
def test_hostile_handshakes_are_refused(method, changed, more, error):
    """A handshake that a server would refuse, or could read in two ways, gets no further (R66)."""
    with pytest.raises(RequestError) as caught:
        head(method, more=more, **changed)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "found", [head(version=(1, 0)), head(Connection=b"keep-alive"), head(Upgrade=None), head(Upgrade=b"h2c")]
)
def test_what_asks_for_no_websocket_is_an_ordinary_request(found):
    """HTTP/1.0, an Upgrade that Connection does not name, and h2c are ignored, as a server may (RFC 9110 §7.8)."""
    assert not found.websocket


def test_the_handshake_that_goes_out():
    """Upgrade and Connection are set anew, the caller's own fields stay, the token is in (R28, R31, R66)."""
    found = head(
        Connection=b"Upgrade, X-Hop",
        X_Hop=b"1",
        TE=b"trailers",
        Sec_WebSocket_Extensions=b"permessage-deflate",
        more=[(b"Authorization", b"Bearer " + steps.KEY)],
    )
    out = outgoing(found)
    fields = out.split(b"\r\n")
    assert fields[0] == b"GET /live HTTP/1.1"
    assert out.count(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n") == out.lower().count(b"upgrade:")
    assert b"Sec-WebSocket-Key: " + NONCE in fields
    assert b"Sec-WebSocket-Extensions: permessage-deflate" in fields
    assert b"Authorization: Bearer " + steps.TOKEN.encode() in fields
    assert not any(word in out for word in (steps.KEY, b"X-Hop", b"TE:"))


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        (b"chat, KEY", b"chat"),
        (b"KEY", b""),
        (b"chat,v1.KEY ,  superchat", b"chat, superchat"),
        (b"chat", b"chat"),
    ],
)
def test_a_key_among_the_subprotocols_is_taken_out(sent, left):
    """Only the members that hold the key go; the others are what caller and service agree upon (R31)."""
    key = steps.KEY
    assert without_key(sent.replace(b"KEY", key), key) == left


def test_a_key_may_come_among_the_subprotocols_where_the_service_says_so():
    """Pages can set no other field: a declared place is read by member, prefixed or not, and leaves no key (R31)."""
    for offered in (b"chat, " + steps.KEY, b"v1.bearer." + steps.KEY + b",chat"):
        out = outgoing(head(more=[(b"Sec-WebSocket-Protocol", offered)]))
        assert b"Sec-WebSocket-Protocol: chat\r\n" in out
        assert steps.KEY not in out
    only = outgoing(head(more=[(b"Sec-WebSocket-Protocol", steps.KEY)]))
    assert b"Sec-WebSocket-Protocol" not in only
    two = head(more=[(b"Sec-WebSocket-Protocol", b"%b, %b" % (steps.KEY, steps.OTHER_KEY))])
    with pytest.raises(AmbiguousKey):
        outgoing(two)


def test_a_key_that_strays_among_the_subprotocols_goes_no_further():
    """Where the service declares no such place the key counts from elsewhere only, and is removed all the same (R31)."""
    service = steps.service("svc", steps.host("api", "api.svc.test"))
    offered = (b"Sec-WebSocket-Protocol", b"chat, " + steps.KEY)
    out = outgoing(head(more=[steps.bearer(), offered]), service)
    assert b"Sec-WebSocket-Protocol: chat\r\n" in out
    assert steps.KEY not in out
    encoded = (b"Sec-WebSocket-Protocol", b"chat, " + base64.urlsafe_b64encode(steps.KEY).rstrip(b"="))
    with pytest.raises(BadRequest):
        outgoing(head(more=[steps.bearer(), encoded]), service)


def reading(data: bytes, *, switches: bool = True, pieces: int = 0) -> AnswerReader:
    reader = AnswerReader()
    reader.begin(b"GET", switches=switches)
    step = pieces or len(data)
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
    return reader


def answer(*lines: bytes, status: bytes = b"HTTP/1.1 101 Switching Protocols") -> bytes:
    return b"\r\n".join([status, *lines, b"", b""])


GOOD = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: " + ACCEPT)


@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
def test_bytes_behind_a_101_are_kept_to_the_byte(pieces, before):
    """Whatever the pieces, HTTP ends with the head and all that follows is the tunnel's (R66)."""
    frames = b"\x81\x02hi HTTP/1.1 200 OK\r\n\r\n" + bytes(range(256))
    data = before + answer(*GOOD, b"Sec-WebSocket-Protocol: chat") + frames
    reader = reading(data, pieces=pieces)
    assert reader.fault is None
    assert reader.head is not None
    assert (reader.head.status, reader.head.reusable, reader.take()) == (101, False, frames)
    assert (reader.complete, reader.extra) == (False, False)
    reader.feed_eof()
    assert reader.complete


def test_what_a_101_may_tell_the_caller():
    """Hop-by-hop fields and what Connection names are ours, the service's other fields pass (R28, R44)."""
    reader = reading(
        answer(
            b"Connection: upgrade, X-Hop",
            b"X-Hop: 1",
            *GOOD[1:],
            b"Keep-Alive: timeout=5",
            b"Alt-Svc: h3",
            b"Proxy-Status: connector-proxy; error=x",
            b"Sec-WebSocket-Protocol: chat",
            b"Set-Cookie: a=1",
            b"Set-Cookie: b=2",
        )
    )
    assert reader.head is not None
    assert reader.head.lines.split(b"\r\n") == [
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Sec-WebSocket-Protocol: chat",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
        b"Via: 1.1 connector-proxy",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"",
    ]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(*GOOD, status=b"HTTP/1.0 101 Switching"), id="http-1.0"),
        pytest.param(answer(*GOOD, status=b"RTSP/1.0 101 Switching"), id="rtsp"),
        pytest.param(answer(*GOOD[1:]), id="no-connection"),
        pytest.param(answer(GOOD[0], GOOD[2]), id="no-upgrade"),
        pytest.param(answer(*GOOD[:2]), id="no-accept"),
        pytest.param(answer(*GOOD, GOOD[2]), id="two-accepts"),
        pytest.param(answer(GOOD[0], b"Upgrade: h2c", GOOD[2]), id="another-protocol"),
        pytest.param(answer(GOOD[0], b"Upgrade: websocket, h2c", GOOD[2]), id="two-protocols"),
        pytest.param(answer(*GOOD, b"Upgrade: websocket"), id="upgrade-twice"),
        pytest.param(answer(b"Connection: close", *GOOD[1:]), id="connection-close"),
        pytest.param(answer(*GOOD, b"Content-Length: 0"), id="length"),
        pytest.param(answer(*GOOD, b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(answer(b"Connection: Upgrade, Sec-WebSocket-Accept", *GOOD[1:]), id="accept-named"),
        pytest.param(answer(*GOOD, b"X : y"), id="space-before-colon"),
        pytest.param(answer(*GOOD, b"X: a\x01b"), id="control"),
    ],
)
@pytest.mark.parametrize("pieces", [0, 11])
def test_a_101_with_another_reading_is_refused(data, pieces):
    """A switch that is not exactly the one asked for is the service's fault and opens nothing (R49, R66)."""
    reader = reading(data + b"\x81\x02hi", pieces=pieces)
    assert (reader.head, reader.complete) == (None, False)
    assert reader.fault is not None


def test_a_101_may_not_be_larger_than_other_heads():
    """Its size is bounded as that of any answer (R22)."""
    assert reading(answer(*GOOD, b"X: " + b"a" * 400_000), pieces=65536).fault is not None


def test_a_101_nobody_asked_for_is_refused():
    """An ordinary request is never answered by a switch (R49)."""
    assert reading(answer(*GOOD), switches=False).fault is not None


@pytest.mark.parametrize(
    ("permit", "allowed"),
    [
        ("svc", True),
        ("svc:*", True),
        ("*", True),
        ("svc:WEBSOCKET:/live", True),
        ("svc:GET,WEBSOCKET", True),
        ("svc:*:/live", True),
        ("svc:GET", False),
        ("svc:GET,POST,PUT,PATCH,DELETE", False),
        ("svc:WEBSOCKET:/other", False),
        ("svc:*:/other/**", False),
    ],
)
def test_a_permit_for_reading_opens_no_websocket(permit, allowed):
    """What goes through a WebSocket can write, so its GET counts as a method of its own (R73, R90)."""
    with contextlib.nullcontext() if allowed else pytest.raises(NotPermitted, match="WEBSOCKET"):
        judge(head(), permit)


def test_an_override_makes_no_other_method_of_a_websocket():
    """A handshake with a method override is refused, declared or not (R73)."""
    service = steps.service("svc", steps.host("api", "api.svc.test"), method_override=("X-HTTP-Method",))
    with pytest.raises(NotPermitted):
        judge(head(more=[(b"X-HTTP-Method", b"GET")]), "svc", service)
