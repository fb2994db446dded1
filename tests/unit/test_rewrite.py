"""The outgoing head: what leaves for a service, byte for byte."""

import base64

import pytest
from support.steps import (
    BY_ID,
    CALENDAR,
    CONFIG,
    DROPBOX,
    KEY,
    SALESFORCE,
    SLACK,
    TIKTOK,
    TOKEN,
    bearer,
    head,
    host,
    injection,
    outgoing,
    patterns,
    service,
    split_head,
)

from proxy.catalog.model import Auth
from proxy.errors import BadRequest, ConnectionConfigMissing, CredentialInvalid
from proxy.forwarding.injection import prepare
from proxy.forwarding.keys import Presented
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import match, parse_target
from proxy.secret import Secret

INJECTED = (b"Authorization", b"Bearer " + TOKEN.encode())


def fields_of(raw: bytes) -> list[tuple[bytes, bytes]]:
    return split_head(raw)[1]


def test_a_whole_head():
    """Request line, Host first, the caller's fields in order, the credential, nothing else (R36, R37)."""
    raw = outgoing("GET", "/slack/users.list?limit=2", (b"User-Agent", b"a/1"), bearer(), (b"accept", b"*/*"))
    assert raw == (
        b"GET /api/users.list?limit=2 HTTP/1.1\r\nHost: slack.com\r\nUser-Agent: a/1\r\naccept: */*\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    )


def test_nothing_is_invented():
    """A caller that sends only a key causes Host and Authorization, no more (R37)."""
    assert fields_of(outgoing("GET", "/slack/x", bearer())) == [(b"Host", b"slack.com"), INJECTED]


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authenticate", b"Trailer", b"Upgrade", b"HTTP2-Settings",
     b"Cookie", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Prefix", b"X-Real-IP", b"Via", b"X-Original-URL", b"X-Rewrite-URL",
     b"Proxy-Authorization", b"Sec-Fetch-Mode", b"Base44-Service-Authorization", b"Expect"],
)  # fmt: skip
def test_fields_that_never_leave(name):
    """Hop-by-hop fields, cookies and what a caller says about itself stay here, in any case (R28, R34, R40)."""
    value = b"100-continue" if name == b"Expect" else b"x"
    for spelt in (name, name.lower(), name.upper()):
        assert [n for n, _ in fields_of(outgoing("GET", "/slack/x", bearer(), (spelt, value)))] == [
            b"Host",
            b"Authorization",
        ]


@pytest.mark.parametrize(
    "name", [b"Authorization_", b"X_Api_Key", b"x.api.key", b"X_Forwarded_For", b"Content_Length", b"Transfer_Encoding", b"Host."]
)  # fmt: skip
def test_look_alikes(name):
    """Names with ``_`` or ``.`` are refused, and where a service allows them look-alikes are removed (R31, R32)."""
    with pytest.raises(BadRequest):
        outgoing("GET", "/slack/x", bearer(), (name, b"x"))
    if name not in {b"Authorization_", b"Host."}:
        names = [n for n, _ in fields_of(outgoing("GET", "/salesforce/x", bearer(), (name, b"x")))]
        assert names == [b"Host", b"Authorization"]


def test_underscores_where_allowed():
    """A service that takes names with underscores gets them as they came (R32)."""
    assert (b"X_Own", b"1") in fields_of(outgoing("GET", "/salesforce/x", bearer(), (b"X_Own", b"1")))


@pytest.mark.parametrize(
    "listed", [b"Authorization", b"Host", b"X-Api-Key, Content-Length", b"close, Cookie", b"X-Forwarded-For"]
)
def test_connection_cannot_remove_what_is_ours(listed):
    """Naming our fields in Connection removes only the caller's copy (R30)."""
    raw = outgoing("POST", "/slack/x", bearer(), (b"Connection", listed), (b"Content-Length", b"3"))
    assert fields_of(raw) == [(b"Host", b"slack.com"), INJECTED, (b"Content-Length", b"3")]


def test_connection_named_fields_do_not_leave():
    """What Connection lists is dropped, over several lines (R28, R29)."""
    raw = outgoing(
        "GET", "/slack/x", bearer(), (b"X-Hop", b"1"), (b"Connection", b""), (b"Connection", b"close, x-hop"), (b"X-Stay", b"2")
    )  # fmt: skip
    assert [name for name, _ in fields_of(raw)] == [b"Host", b"X-Stay", b"Authorization"]


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        ([], None),
        ([(b"Content-Length", b"0")], (b"Content-Length", b"0")),
        ([(b"Content-Length", b"0010")], (b"Content-Length", b"10")),
        ([(b"Transfer-Encoding", b"Chunked")], (b"Transfer-Encoding", b"chunked")),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "POST"])
def test_framing_is_set_anew(method, fields, framing):
    """Exactly one framing leaves, in canonical form, or none for a request without body (R2, R4, R20)."""
    sent = [f for f in fields_of(outgoing(method, "/slack/x", bearer(), *fields)) if f[0] in {b"Content-Length", b"Transfer-Encoding"}]  # fmt: skip
    assert ([framing] if framing else []) == sent


def test_trailers_are_asked_for_properly():
    """``TE: trailers`` goes on with the Connection option that it needs; other codings do not (R28)."""
    sent = fields_of(outgoing("GET", "/slack/x", bearer(), (b"TE", b"gzip, trailers")))
    assert sent[-2:] == [(b"TE", b"trailers"), (b"Connection", b"TE")]
    assert b"TE" not in outgoing("GET", "/slack/x", bearer(), (b"TE", b"gzip"))


def test_default_fields():
    """A service's default field is sent only when the caller sent none."""
    name = b"X-GitHub-Api-Version"
    assert (name, b"2022-11-28") in fields_of(outgoing("GET", "/github/user", bearer()))
    own = fields_of(outgoing("GET", "/github/user", bearer(), (name.lower(), b"2026-01-01")))
    assert [value for sent, value in own if sent.lower() == name.lower()] == [b"2026-01-01"]


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/slack/x?", b"/api/x?"),
        ("/slack/x?a=%zz&b=+%20;c&&a=2&", b"/api/x?a=%zz&b=+%20;c&&a=2&"),
        ("/slack/x?a=1&" + "&".join("p=1" for _ in range(10000)), None),
        (f"/slack/x?token={KEY.decode()}", b"/api/x"),
        (f"/slack/x?a=%31&token={KEY.decode()}&b=+2&", b"/api/x?a=%31&b=+2&"),
        (f"/slack/x?TOKEN={KEY.decode()}&x", b"/api/x?x"),
        (f"/slack/x?%74oken=%63{KEY.decode()[1:]}&x", b"/api/x?x"),
        (f"/slack/x?token=&a=1&token={KEY.decode()}", b"/api/x?a=1"),
    ],
    ids=["bare", "odd", "long", "only-key", "between", "case", "encoded", "empty-too"],
)
def test_queries(target, sent):
    """The query goes through byte for byte, less the parameters that hold the key (R24)."""
    line = split_head(outgoing("GET", target, bearer()))[0]
    expected = sent if sent is not None else target.replace("/slack/", "/api/").encode()
    assert b"GET %b HTTP/1.1" % expected == line


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        pytest.param("/slack/x", [(b"X-Mine", KEY)], id="other-field"),
        pytest.param("/slack/x", [(b"X-Mine", b"a " + KEY + b" b")], id="inside-other-field"),
        pytest.param(f"/slack/x?mine={KEY.decode()}", [], id="other-parameter"),
        pytest.param(f"/slack/x?mine=%63{KEY.decode()[1:]}&a=1", [], id="other-parameter-encoded-beside"),
    ],
)
def test_keys_are_removed_by_value(target, fields):
    """A key in a place of nobody's choosing is removed with that place, or the request is refused (R31)."""
    try:
        raw = outgoing("GET", target, bearer(), *fields)
    except BadRequest:
        assert b"%63" in target.encode()
    else:
        assert KEY not in raw


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        pytest.param(f"/slack/{KEY.decode()}", [], id="path"),
        pytest.param(f"/slack/%63{KEY.decode()[1:]}", [], id="path-encoded"),
        pytest.param(f"/slack/x?{KEY.decode()}", [], id="parameter-name"),
        pytest.param("/slack/x", [(b"X-Mine", b"%63" + KEY[1:])], id="field-encoded"),
        pytest.param("/slack/x", [(b"X-Mine", base64.b64encode(KEY))], id="base64"),
        pytest.param(
            "/slack/x", [(b"X-Mine", b"Basic " + base64.b64encode(b"a" + KEY + b":"))], id="base64-second"
        ),
        pytest.param(
            "/slack/x",
            [(b"X-Mine", base64.urlsafe_b64encode(b"x:" + KEY + b"~~"))],
            id="base64-third-urlsafe",
        ),
        pytest.param("/slack/x", [(KEY.replace(b"_", b"-"), b"x"), (b"X-" + KEY, b"x")], id="field-name"),
    ],
)
def test_the_last_gate(target, fields):
    """A key where it cannot be taken out refuses the request, raw or once decoded."""
    with pytest.raises(BadRequest):
        outgoing("GET", target, bearer(), *fields)


def test_places_that_the_service_expects():
    """Where the service expects its token in that very place, it gets it there; elsewhere the place goes."""
    replaced = fields_of(outgoing("POST", "/salesforce/services/async/59.0/job", (b"x-sfdc-session", KEY)))
    assert (b"X-SFDC-Session", TOKEN.encode()) in replaced
    removed = fields_of(outgoing("POST", "/salesforce/services/data", (b"X-SFDC-Session", KEY)))
    assert [name for name, _ in removed] == [b"Host", b"Authorization"]
    line, _ = split_head(outgoing("GET", f"/salesforce/id?a=1&oauth_token={KEY.decode()}", bearer()))
    assert b"GET /id?a=1&oauth_token=%b HTTP/1.1" % TOKEN.encode() == line


def test_hosts_without_token():
    """A host that takes no token gets none, and neither does it get the key."""
    raw = outgoing("POST", "/dropbox/files/list_folder/longpoll", bearer(), (b"Content-Length", b"2"))
    assert fields_of(raw) == [(b"Host", b"notify.dropboxapi.com"), (b"Content-Length", b"2")]


@pytest.mark.parametrize(
    ("target", "has_token"),
    [("/s/up/1", False), ("/s/down", True), ("/s/down?a=1&tempauth=x", False), ("/s/down?a=tempauth", True), ("/s/down?%74empauth", False)],
)  # fmt: skip
def test_calls_without_token(target, has_token):
    """Calls that the host declares to carry their own authorization go without the token."""
    chosen = service("s", host("a", "a.example", none_when=patterns("/up/**"), none_when_query=("tempauth",)))
    came = head("GET", target, bearer())
    goal = parse_target(came.target)
    route = match(goal, came.method, chosen)
    raw = request_head(came, route, injection(route), Presented(KEY))
    assert has_token is (TOKEN.encode() in raw)
    assert KEY not in raw


@pytest.mark.parametrize(
    ("auth", "scheme", "token", "line"),
    [
        (Auth(), None, "t", b"Authorization: Bearer t\r\n"),
        (Auth("bot"), None, "t", b"Authorization: Bot t\r\n"),
        (Auth("token"), None, "t", b"Authorization: token t\r\n"),
        (Auth("raw"), None, "t", b"Authorization: t\r\n"),
        (Auth("basic"), None, "u:p w", b"Authorization: Basic " + base64.b64encode(b"u:p w") + b"\r\n"),
        (Auth("header", "X-Own"), None, "t", b"X-Own: t\r\n"),
        (Auth("bearer"), "bot", "t", b"Authorization: Bot t\r\n"),
        (Auth("header", "X-Own"), "bearer", "t", b"Authorization: Bearer t\r\n"),
        (Auth("bearer", "X-Auth"), "raw", "t", b"X-Auth: t\r\n"),
    ],
)
def test_schemes(auth, scheme, token, line):
    """The token's form is the service's, unless the connection says otherwise."""
    chosen = service("s", host("a", "a.example"), auth=auth)
    assert line == prepare(chosen, chosen.hosts[0], token=Secret(token), scheme=scheme, config=None).line


def test_a_hosts_own_form_comes_first():
    """A host's own auth beats the connection's scheme; the caller's copy of that field never passes (R31)."""
    business = TIKTOK.hosts[1]
    made = prepare(TIKTOK, business, token=Secret("t"), scheme="bearer", config=None)
    assert made.line == b"Access-Token: t\r\n"
    sent = fields_of(outgoing("GET", "/tiktok/open_api/v1.3/x/", (b"ACCESS-TOKEN", KEY)))
    assert [(b"Host", b"business-api.tiktok.com"), (b"Access-Token", TOKEN.encode())] == sent


@pytest.mark.parametrize(
    "token", ["", "a\r\nX: y", "a\nb", "a\0b", "tök", "a b", " a", "a\x7f", "a\tb", "\u2028"]
)
def test_poisoned_tokens(token):
    """A token that cannot stand in a field fails the request: nothing of the caller's takes its place (R33, R39)."""
    with pytest.raises(CredentialInvalid):
        prepare(SLACK, SLACK.hosts[0], token=Secret(token), config=None)


def test_basic_needs_two_halves():
    """A token for Basic is ``user:password``; anything else is said to be unusable."""
    chosen = service("s", host("a", "a.example"), auth=Auth("basic"))
    with pytest.raises(CredentialInvalid):
        prepare(chosen, chosen.hosts[0], token=Secret("nocolon"), config=None)


@pytest.mark.parametrize(
    ("config", "error"),
    [(None, ConnectionConfigMissing), ({}, ConnectionConfigMissing), ({"host": "evil.com"}, CredentialInvalid),
     ({"host": "my.salesforce.com"}, CredentialInvalid), ({"host": "a.my.salesforce.com/x"}, CredentialInvalid),
     ({"host": "evil.com#.my.salesforce.com"}, CredentialInvalid)],
)  # fmt: skip
def test_origins_come_from_catalog_and_config(config, error):
    """The origin is the catalog's, filled from a config that leads nowhere else (R75, R76)."""
    with pytest.raises(error):
        prepare(SALESFORCE, SALESFORCE.hosts[0], token=Secret("t"), config=config)
    assert (
        prepare(SALESFORCE, SALESFORCE.hosts[0], token=Secret("t"), config=CONFIG).origin.host
        == CONFIG["host"]
    )


def test_a_prepared_injection_does_not_print():
    """A prepared injection shows the token in no repr (R143)."""
    assert TOKEN not in repr(prepare(DROPBOX, DROPBOX.hosts[0], token=Secret(TOKEN), config=None))


def test_requests_do_not_change_each_other():
    """Heads made from one injection are independent, and what came in stays as it was (R41)."""
    first = head("GET", "/slack/x?token=" + KEY.decode(), (b"X-A", b"1"), bearer())
    second = head("POST", "/slack/y", (b"X-B", b"2"), (b"Content-Length", b"1"), bearer())
    before = (tuple(first), tuple(second))
    shared = injection(match(parse_target(first.target), b"GET", SLACK))

    def make(came):
        goal = parse_target(came.target)
        return request_head(came, match(goal, came.method, BY_ID["slack"]), shared, Presented(KEY))

    alone = (make(first), make(second))
    assert alone == (make(first), make(second))
    assert before == (tuple(first), tuple(second))
    assert b"X-A" not in alone[1]


def test_requests_without_a_key():
    """A request without a key (public paths) is composed like any other, with nothing to remove."""
    came = head("GET", "/googlecalendar/discovery/v1/apis")
    route = match(parse_target(came.target), b"GET", CALENDAR)
    assert (
        split_head(request_head(came, route, injection(route), None))[0] == b"GET /discovery/v1/apis HTTP/1.1"
    )
