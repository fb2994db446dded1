"""The gate: every request has one reading, or none."""

import pytest
from support.steps import HOST, head

from proxy.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    MethodNotAllowed,
    RequestError,
    TargetTooLong,
    UnsupportedTransferCoding,
    UpgradeUnsupported,
)
from proxy.forwarding.gate import SINGLETONS, Limits, gate

LIMITS = Limits()
CL, TE = b"Content-Length", b"Transfer-Encoding"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param([(TE, b"chunked"), (CL, b"3")], BadRequest, id="R2-both"),
        pytest.param([(CL, b"3"), (TE, b"chunked")], BadRequest, id="R2-both-other-order"),
        pytest.param([(TE, b",chunked")], BadRequest, id="R3-empty-member"),
        pytest.param([(TE, b"chunked,")], BadRequest, id="R3-trailing-comma"),
        pytest.param([(TE, b'"chunked"')], BadRequest, id="R3-quoted"),
        pytest.param([(TE, b"chunked\xa0")], BadRequest, id="R3-non-ascii-padding"),
        pytest.param([(TE, b"")], BadRequest, id="R3-empty"),
        pytest.param([(TE, b"chunked;q=1")], BadRequest, id="R3-parameter"),
        pytest.param([(TE, b"chunked, chunked")], BadRequest, id="R3-twice"),
        pytest.param([(TE, b"chunked"), (TE, b"chunked")], BadRequest, id="R3-two-lines"),
        pytest.param(
            [(TE, b"chunked"), (b"transfer-encoding", b"identity")], BadRequest, id="R3-two-lines-case"
        ),
        pytest.param([(TE, b"chunked, identity")], UnsupportedTransferCoding, id="R3-list"),
        pytest.param([(TE, b"gzip, chunked")], UnsupportedTransferCoding, id="R3-gzip-chunked"),
        pytest.param([(TE, b"identity")], UnsupportedTransferCoding, id="R3-identity"),
        pytest.param([(TE, b"xchunked")], UnsupportedTransferCoding, id="R3-xchunked"),
        pytest.param([(CL, b"+3")], BadRequest, id="R4-plus"),
        pytest.param([(CL, b"-3")], BadRequest, id="R4-minus"),
        pytest.param([(CL, b"0x3")], BadRequest, id="R4-hex"),
        pytest.param([(CL, b"3_0")], BadRequest, id="R4-underscore"),
        pytest.param([(CL, b"3,3")], BadRequest, id="R4-list"),
        pytest.param([(CL, b"3 3")], BadRequest, id="R4-space"),
        pytest.param([(CL, b"")], BadRequest, id="R4-empty"),
        pytest.param([(CL, b"\xb2")], BadRequest, id="R4-superscript"),
        pytest.param([(CL, b"9" * 19)], BadRequest, id="R4-overflow"),
        pytest.param([(CL, b"3"), (CL, b"3")], BadRequest, id="R4-equal-twice"),
        pytest.param([(CL, b"3"), (b"content-length", b"4")], BadRequest, id="R4-different-twice"),
        pytest.param([(b"X-A", b"a\nb")], BadRequest, id="R8-bare-lf"),
        pytest.param([(b"X-A", b"a\rb")], BadRequest, id="R8-bare-cr"),
        pytest.param([(b"X-A", b"a\x00b")], BadRequest, id="R8-nul"),
        pytest.param([(b"X-A", b"a\r\n b")], BadRequest, id="R8-obs-fold"),
        pytest.param([(b"X-A", b"a\x7f")], BadRequest, id="R8-del"),
        pytest.param([(b"X-A ", b"a")], BadRequest, id="R9-space-before-colon"),
        pytest.param([(b"", b"a")], BadRequest, id="R9-empty-name"),
        pytest.param([(b"X-\xc3\xa9", b"a")], BadRequest, id="R9-non-ascii-name"),
        pytest.param([(b"X[A]", b"a")], BadRequest, id="R9-brackets"),
        pytest.param([(b"X:A", b"a")], BadRequest, id="R9-colon"),
        pytest.param([HOST], BadRequest, id="R10-doubled-host"),
        pytest.param([(b"Expect", b"200-maybe")], ExpectationFailed, id="R21-unknown"),
        pytest.param([(b"Expect", b"100-continue, x")], ExpectationFailed, id="R21-list"),
        pytest.param([(b"Connection", b'close, "x"')], BadRequest, id="R29-not-tokens"),
        pytest.param(
            [(b"Connection", b"Upgrade"), (b"Upgrade", b"TLS/1.0")], UpgradeUnsupported, id="upgrade"
        ),
        pytest.param(
            [(b"Connection", b"keep-alive, UPGRADE"), (b"Upgrade", b"h2c, websocket")],
            UpgradeUnsupported,
            id="upgrade-list",
        ),
    ],
)
def test_refused_fields(fields, error):
    """Framing, names and values with two readings are refused with their own error (R2-R4, R8-R10, R21, R29)."""
    with pytest.raises(RequestError) as caught:
        head("POST", "/slack/x", *fields)
    assert type(caught.value) is error


@pytest.mark.parametrize("name", sorted(SINGLETONS - {b"host"}))
def test_singletons_may_not_be_doubled(name):
    """A field of one value that stands there twice is refused, whatever the case of its name (R10)."""
    with pytest.raises(BadRequest):
        head("POST", "/slack/x", (name, b"1"), (name.upper(), b"1"))


@pytest.mark.parametrize("name", [b"Accept", b"X-Api-Key", b"X-Custom", b"Cookie"])
def test_lists_may_be_doubled(name):
    """Other fields keep their number and order (R38)."""
    found = head("GET", "/slack/x", (name, b"1"), (name, b"2"))
    assert [(name, b"1"), (name, b"2")] == [(sent, value) for _, sent, value in found.fields[1:]]


@pytest.mark.parametrize(
    "value",
    [
        b"slack.com",
        b"localhost:8080",
        b"127.0.0.1",
        b"[::1]",
        b"[::1]:8080",
        b"a_b.local",
        b"EXAMPLE.com.",
        b"proxy:65535",
    ],
)
def test_hosts_taken(value):
    """Names, addresses and ports that are ones pass the gate (R10)."""
    assert value == gate("GET", "/", (1, 1), ((b"Host", value),), LIMITS).host


@pytest.mark.parametrize(
    "value",
    [b"", b"a b", b"a/b", b"a@b", b"a#", b"a?b", b"a,b", b"http://a", b"a:", b"a:b", b"a:99999", b"a:-1", b"[::1", b"::1",
     b"[::1]x", b"[::g]", b"[1:2]", b"[:::]", b"[::1]:99999", b"\xc3\xa9.com", b"-a-.b", b"a..b", b".a", b"a\\b", b"a%41", b"x" * 300],
)  # fmt: skip
def test_hosts_refused(value):
    """A Host that is not 'name' or 'name:port' is refused, in HTTP/1.0 too (R10)."""
    for version in ((1, 1), (1, 0)):
        with pytest.raises(BadRequest):
            gate("GET", "/", version, ((b"Host", value),), LIMITS)


def test_a_hostile_host_takes_no_time():
    """The grammar of Host has no exponential case: a long near miss is refused at once (R22)."""
    with pytest.raises(BadRequest):
        gate("GET", "/", (1, 1), ((b"Host", b"a" * 250 + b"!"),), LIMITS)


def test_host_is_needed_in_http_1_1_only():
    """HTTP/1.1 needs Host, HTTP/1.0 does not (R10)."""
    assert gate("GET", "/", (1, 0), (), LIMITS).host == b""
    with pytest.raises(BadRequest):
        gate("GET", "/", (1, 1), (), LIMITS)


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (9, 9), (0, 0)])
def test_other_versions_are_refused(version):
    """Only HTTP/1.0 and HTTP/1.1 are spoken (R11)."""
    with pytest.raises(BadRequest):
        gate("GET", "/", version, (HOST,), LIMITS)


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "http://slack.com/"), ("GET", "*"), ("OPTIONS", "*/x"), ("GET", "slack.com:443"), ("GET", "admin"), ("GET", ""),
     ("GET", "/a b"), ("GET", "/\udcc3\udca9"), ("GET", "/é"), ("GET", "/a\x7f"), ("GET", "/a\tb"), ("GET", "/a#b"), ("GET", "/a\x00")],
)  # fmt: skip
def test_targets_refused(method, target):
    """Anything but a path in printable ASCII is refused (R12, R13)."""
    with pytest.raises(BadRequest):
        head(method, target)


@pytest.mark.parametrize(
    "target", ["/", "//x", "/a?b?c", "/a?", "/%zz%00", "/a;b\\c", '/"<>^`{|}', "/'()*~!$&+,=:@"]
)
def test_targets_pass_byte_for_byte(target):
    """What may stand in a target is kept exactly (R13, R24, R27)."""
    assert target.encode() == head("GET", target).target


def test_asterisk_is_about_the_proxy():
    """``OPTIONS *`` is told apart, so that the proxy answers it itself (R12)."""
    assert head("OPTIONS", "*").is_asterisk
    assert not head("OPTIONS", "/*").is_asterisk


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "connect", "Trace", "TRACK"])
def test_methods_never_forwarded(method):
    """CONNECT and TRACE are 405 in every spelling (R12, R19)."""
    with pytest.raises(MethodNotAllowed):
        head(method, "/slack/x")


@pytest.mark.parametrize("method", ["", 'G=":<>(e)"', "GE T", "G\u00cbT", "G\n", "X" * 65])
def test_methods_that_are_no_tokens(method):
    """A method is a token of bounded length (R19)."""
    with pytest.raises(BadRequest):
        head(method, "/slack/x")


@pytest.mark.parametrize("method", ["GET", "get", "PROPFIND", "X-CUSTOM", "QUERY"])
def test_methods_keep_their_case(method):
    """An unknown method goes on as it is, never mapped to another (R19)."""
    assert method.encode() == head(method, "/slack/x").method


@pytest.mark.parametrize(
    ("fields", "body", "length"),
    [
        pytest.param([], "none", 0, id="none"),
        pytest.param([(CL, b"0")], "length", 0, id="zero"),
        pytest.param([(CL, b"010")], "length", 10, id="R4-canonical"),
        pytest.param([(CL, b"0" * 40 + b"7")], "length", 7, id="R4-many-zeros"),
        pytest.param([(CL, b"9" * 18)], "length", 10**18 - 1, id="large"),
        pytest.param([(TE, b"chunked")], "chunked", 0, id="chunked"),
        pytest.param([(TE, b"CHUNKED")], "chunked", 0, id="R3-any-case"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "POST"])
def test_framing(method, fields, body, length):
    """Framing is what the caller said, for every method; without it there is no body (R4, R20)."""
    found = head(method, "/slack/x", *fields)
    assert (body, length) == (found.body, found.length)


def test_http_1_0_has_no_transfer_encoding():
    """Transfer-Encoding in HTTP/1.0 is refused (R5)."""
    with pytest.raises(BadRequest):
        head("POST", "/slack/x", (TE, b"chunked"), version=(1, 0))


def test_expectations():
    """100-continue counts with a body and in HTTP/1.1 only (R21)."""
    wish = (b"Expect", b"100-Continue")
    assert head("POST", "/slack/x", wish, (CL, b"3")).expects_continue
    assert not head("POST", "/slack/x", wish).expects_continue
    assert not head("POST", "/slack/x", wish, (CL, b"3"), version=(1, 0)).expects_continue


@pytest.mark.parametrize(
    ("version", "lines", "names", "closes"),
    [
        pytest.param((1, 1), [], set(), False, id="1.1"),
        pytest.param((1, 1), [b"close"], set(), True, id="close"),
        pytest.param((1, 1), [b"Keep-Alive"], set(), False, id="keep-alive"),
        pytest.param((1, 0), [], set(), True, id="1.0"),
        pytest.param((1, 0), [b"keep-alive"], set(), False, id="1.0-keep-alive"),
        pytest.param((1, 0), [b"keep-alive, close"], set(), True, id="1.0-both"),
        pytest.param((1, 1), [b"", b"close, X-Hop"], {b"x-hop"}, True, id="R29-empty-then-list"),
        pytest.param((1, 1), [b"X-A", b"X-B , ,x-c"], {b"x-a", b"x-b", b"x-c"}, False, id="R29-lines"),
        pytest.param((1, 1), [b"keep-alive", b"close"], set(), True, id="R29-close-in-second"),
    ],
)
def test_connection(version, lines, names, closes):
    """All Connection lines count, and HTTP/1.0 closes unless asked to keep (R18, R29)."""
    found = head("GET", "/slack/x", *[(b"Connection", line) for line in lines], version=version)
    assert (names, closes) == (set(found.connection_names), found.wants_close)


def test_h2c_offer_is_ignored():
    """An offer of h2c is no reason to refuse: the caller goes on in HTTP/1.1 (RFC 9110 §7.8)."""
    found = head(
        "GET",
        "/slack/x",
        (b"Connection", b"Upgrade, HTTP2-Settings"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AA"),
    )
    assert {b"upgrade", b"http2-settings"} == found.connection_names


def test_upgrade_without_connection_is_dropped():
    """Upgrade counts only when Connection names it, and never in HTTP/1.0."""
    assert head("GET", "/slack/x", (b"Upgrade", b"websocket"))
    assert head("GET", "/slack/x", (b"Upgrade", b"websocket"), (b"Connection", b"upgrade"), version=(1, 0))


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        pytest.param(Limits(request_line=30), TargetTooLong, id="line"),
        pytest.param(Limits(headers=3), HeadersTooLarge, id="number"),
        pytest.param(Limits(header_bytes=200), HeadersTooLarge, id="bytes"),
    ],
)
def test_limits(limits, error):
    """Request line, number of fields and their bytes are bounded, each with its error (R22)."""
    fields = [(b"X-%d" % n, b"v" * 50) for n in range(4)]
    with pytest.raises(error):
        head("GET", "/slack/" + "a" * 20, *fields, limits=limits)


def test_values_keep_their_bytes():
    """Bytes from 0x80, tabs inside and empty values go through exactly (R14, R16)."""
    fields = [(b"X-A", b"\x85admin\xa0"), (b"X-B", b"a\tb"), (b"X-C", b"")]
    assert fields == [(name, value) for _, name, value in head("GET", "/slack/x", *fields).fields[1:]]


@pytest.mark.parametrize(
    ("method", "fields", "page"),
    [
        ("GET", [(b"Sec-Fetch-Site", b"cross-site")], True),
        ("GET", [(b"Sec-Fetch-Site", b"Cross-Site")], True),
        ("GET", [(b"Sec-Fetch-Site", b"same-origin")], False),
        ("GET", [(b"Origin", b"https://a")], False),
        ("OPTIONS", [(b"Origin", b"https://a"), (b"Access-Control-Request-Method", b"PUT")], True),
        ("OPTIONS", [(b"Origin", b"https://a")], False),
        ("GET", [], False),
    ],
)
def test_pages_of_other_sites(method, fields, page):
    """Cross-site requests of browsers and their preflights are known as such (R88)."""
    assert page is head(method, "/slack/x", *fields).from_page


def test_trailers_accepted():
    """``TE: trailers`` is recognised among other codings (R28, R54)."""
    assert head("GET", "/slack/x", (b"TE", b"gzip;q=0.5, Trailers")).accepts_trailers
    assert not head("GET", "/slack/x", (b"TE", b"trailersx")).accepts_trailers
    assert not head().accepts_trailers


def test_a_head_does_not_print_its_values():
    """A head in a traceback shows neither values nor target (R143)."""
    found = head("GET", "/slack/x?token=s3cret", (b"Authorization", b"Bearer s3cret"))
    assert "s3cret" not in repr(found)
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(("name", "odd"), [(b"X_A", True), (b"X.A", True), (b"X-A", False)])
def test_odd_names_are_noted(name, odd):
    """Names with ``_`` or ``.`` are marked; whether they pass is the service's to say (R32)."""
    assert odd is head("GET", "/slack/x", (name, b"a.b_c")).odd_names
