"""Hostile request lines, protocols, sizes, expectations, connection options and pipelines (R11-R13, R17-R19, R21, R22, R28-R30)."""

from collections.abc import Iterator

from hostile import AUTH, HOST, LINE, SMUGGLED, Case

# Tables of bytes read better in rows.
# fmt: off


def versions() -> Iterator[Case]:
    """Only HTTP/1.0 and HTTP/1.1 (R11)."""
    for number, version in enumerate(
        (
            b"HTTP/0.9", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/1.01", b"HTTP/01.1", b"HTTP/2.0", b"HTTP/2",
            b"HTTP/3", b"HTTP/9.9", b"HTTP/11", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1,1",
            b"HTTP/1.1.1", b"HTTP/-1.1", b"HTTP/+1.1", b"HTTP/1.x", b"HTTP/x.1", b"HTTP 1.1", b"http/1.1",
            b"Http/1.1", b"HTTP\\1.1", b"HTTP//1.1", b"HTTP/ 1.1", b"HTTP/1 .1", b"HTTP/1. 1", b"HTTPS/1.1",
            b"RTSP/1.0", b"ICE/1.0", b"SIP/2.0", b"SHTTP/1.1", b"XTTP/1.1", b"HTTP/\xef\xbc\x91.1",
            b"HTTP/1.1 HTTP/1.1", b"HTTP/1.1\x00", b"HTTP/1.\x001", b"", b"1.1", b"HTTP", b"/1.1",
            b"HTTP/1.1;", b"HTTP/0.0", b"HTTP/0.1", b"HTTP/1.9", b"HTTP/4294967297.1", b"HTTP/1.4294967297",
        )
    ):
        yield Case(f"version/{number}", b"GET {AT} " + version + b"\r\n" + HOST + AUTH + b"\r\n", "refuse")
    yield Case("version/simple", b"GET {AT}\r\n\r\n", "refuse")
    yield Case("version/simple-lf", b"GET {AT}\n", "refuse")
    yield Case("version/1.0", b"GET {AT} HTTP/1.0\r\n" + HOST + AUTH + b"\r\n", "pass")
    yield Case("version/1.0-bare", b"GET {AT} HTTP/1.0\r\n" + AUTH + b"\r\n", "either")
    yield Case("version/1.0-then", b"GET {AT} HTTP/1.0\r\n" + HOST + AUTH + b"\r\n" + SMUGGLED, "either")


def targets() -> Iterator[Case]:
    """Only origin-form (R12, R13, R71, R72)."""
    for number, target in enumerate(
        (
            b"http://up.example{AT}", b"https://up.example{AT}", b"http://proxy.example{AT}",
            b"http://proxy.example:80{AT}", b"HTTP://a{AT}", b"ftp://a{AT}", b"http:{AT}", b"http:/{AT}",
            b"//up.example{AT}", b"///{AT}", b"up.example:443", b"up.example", b"127.0.0.1:80", b"[::1]:80",
            b"*", b"*{AT}", b"*/x", b"admin", b"admin/a", b"admin{AT}", b"?a=b", b"#", b"#{AT}",
            b"@up.example", b"@up.example{AT}", b"user@up.example{AT}", b"{AT}#frag", b"{AT}/#", b"\\{AT}",
            b".{AT}", b"..{AT}", b";{AT}", b":80{AT}", b"javascript:alert(1)", b"{AT}/../x", b"{AT}/./x",
            b"{AT}/..", b"{AT}/%2e%2e/x", b"{AT}/%2E%2e/x", b"{AT}/.%2e/x", b"{AT}/%2e./x",
            b"{AT}/%252e%252e/x", b"{AT}/..%2fx", b"{AT}/..%5cx", b"{AT}/..\\x", b"{AT}/%2e%2e%2fx",
            b"{AT}/..;/x", b"{AT}/%c0%ae%c0%ae/x", b"/%2e%2e{AT}", b"/..{AT}", b"/.{AT}", b"/./{AT}",
            b"/%2f{AT}", b"/%5c{AT}",
        )
    ):
        for method in (b"GET", b"POST") if number < 34 else (b"GET",):
            body = b"Content-Length: 0\r\n" if method == b"POST" else b""
            odd = target in {b"{AT}/%c0%ae%c0%ae/x", b"{AT}/..;/x"}
            yield Case(
                f"target/{number}/{method.decode()}",
                method + b" " + target + b" HTTP/1.1\r\n" + HOST + AUTH + body + b"\r\n",
                "either" if odd else "refuse",
            )
    for number, target in enumerate(
        (
            b"{AT}", b"{AT}/", b"{AT}?", b"{AT}?a=b", b"{AT}?a=1&a=2;b=3", b"{AT}?a=%zz", b"{AT}?a=+%20",
            b"{AT}??", b"{AT}?/../x", b"{AT}?a=http://b/", b"{AT}/a%2Fb", b"{AT}/a%5Cb", b"{AT}/a;b=c",
            b"{AT}/a,b", b"{AT}/a:b", b"{AT}/a@b", b"{AT}/~a", b"{AT}/a'b(c)*", b"{AT}/!$&+=",
            b"{AT}/a...b", b"{AT}/...", b"{AT}/.a", b"{AT}/a.", b"{AT}/%E2%82%AC",
            b"{AT}?" + b"&".join(b"a%d=%d" % (n, n) for n in range(3000)),
        )
    ):
        yield Case(
            f"target-good/{number}", b"GET " + target + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "pass"
        )
    for number, target in enumerate(
        (
            b"{AT}/a//b", b"{AT}//", b'{AT}/"', b"{AT}/<x>", b"{AT}/{x}", b"{AT}/|", b"{AT}/^", b"{AT}/`",
            b"{AT}/[x]", b"{AT}/%00", b"{AT}/%0d%0aX:%201", b"{AT}/%", b"{AT}/%2", b"{AT}/%gg",
            b"{AT}/%u0041", b"{AT}/%23", b"{AT}/%3f", b"{AT}?#", b"{AT}?a=\\",
        )
    ):
        yield Case(
            f"target-odd/{number}", b"GET " + target + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "either"
        )


def methods() -> Iterator[Case]:
    """Methods are tokens and never mapped; CONNECT and TRACE are never forwarded (R12, R19)."""
    for number, method in enumerate(
        (
            b"CONNECT", b"TRACE", b'G=":<>(e)"', b"", b"GET,POST", b"G ET", b"GET/", b"G\xc3\x89T",
            b"<GET>", b"[GET]", b"GET:", b"GET;", b"GET@", b"{GET}", b'"GET"', b"GET\\", b"GET?", b"(GET)",
        )
    ):
        yield Case(f"method-bad/{number}", method + b" {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "refuse")
    for number, target in enumerate(
        (b"up.example:443", b"127.0.0.1:22", b"{AT}", b"http://a/", b"*", b"a", b":443", b"a:b")
    ):
        yield Case(
            f"connect/{number}",
            b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n" + SMUGGLED,
            "refuse",
        )
    for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"):
        body = b"Content-Length: 0\r\n" if method in {b"POST", b"PUT", b"PATCH"} else b""
        yield Case(
            f"method-good/{method.decode()}",
            method + b" {AT} HTTP/1.1\r\n" + HOST + AUTH + body + b"\r\n",
            "pass",
        )
    for number, method in enumerate(
        (
            b"get", b"Get", b"gET", b"PROPFIND", b"MKCOL", b"REPORT", b"LOCK", b"SEARCH", b"QUERY",
            b"PURGE", b"SOURCE", b"PRI", b"X", b"A" * 200, b"M-SEARCH", b"GET_", b"G.T",
            b"BASELINE-CONTROL", b"!#$%&'*+-.^_`|~", b"connect", b"trace", b"DESCRIBE", b"ANNOUNCE",
            b"SETUP", b"PLAY",
        )
    ):
        yield Case(f"method-odd/{number}", method + b" {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "either")


def request_lines() -> Iterator[Case]:
    """Whitespace in the request line: exactly one space between its three parts (RFC 9112 §3)."""
    for number, line in enumerate(
        (
            b"GET  {AT} HTTP/1.1", b"GET {AT}  HTTP/1.1", b" GET {AT} HTTP/1.1", b"GET {AT} HTTP/1.1 ",
            b"GET\t{AT} HTTP/1.1", b"GET {AT}\tHTTP/1.1", b"GET\x0b{AT} HTTP/1.1", b"GET\x0c{AT} HTTP/1.1",
            b"GET {AT}\x0bHTTP/1.1", b"GET {AT} x HTTP/1.1", b"GET {AT} {AT} HTTP/1.1",
            b"GET {AT}%20 HTTP/1.1 x", b"GET{AT} HTTP/1.1", b"GET {AT}HTTP/1.1", b"{AT} HTTP/1.1",
            b"GET HTTP/1.1", b"GET  HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1 200 OK", b"GET {AT} HTTP/1.1\tx",
            b"GET\xa0{AT} HTTP/1.1", b"GET\x00{AT} HTTP/1.1", b"GET {AT}\x00 HTTP/1.1",
            b"GET {AT}\r HTTP/1.1", b"GET {AT}\n HTTP/1.1", b"GET {AT} HTTP/1.1\r",
            b"POST {AT} HTTP/1.1\x1c", b"GET \r\n{AT} HTTP/1.1",
        )
    ):
        if number < 2:  # RFC 9112 section 3 lets a recipient take several spaces for one
            yield Case(f"request-line/{number}", line + b"\r\n" + HOST + AUTH + b"\r\n", "either")
            continue
        yield Case(f"request-line/{number}", line + b"\r\n" + HOST + AUTH + b"\r\n", "refuse")
        yield Case(f"request-line/{number}/then", line + b"\r\n" + HOST + AUTH + b"\r\n" + SMUGGLED, "refuse")


def foreign_protocols() -> Iterator[Case]:
    """What is not HTTP/1 at all (R11, R66)."""
    raw = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 160, b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + SMUGGLED,
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x01\xbb" + SMUGGLED,
        b"\x05\x01\x00", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"EHLO a\r\n", b"USER a\r\nPASS b\r\n",
        b"*1\r\n$4\r\nPING\r\n", b"\x00" * 100, b"\xff" * 100, b"\n" * 50 + b"\x01\r\n", b"{}\r\n\r\n",
        b"<xml/>\r\n\r\n", b"GET", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", b"stats\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    for number, data in enumerate(raw):
        yield Case(f"foreign/{number}", data, "refuse")
    get = b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH
    for number, fields in enumerate(
        (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", b"Upgrade: websocket\r\n",
            b"Connection: Upgrade\r\n", b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\nUpgrade: \r\n",
            b"Connection: Upgrade\r\nUpgrade: a, b\r\n",
            b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n",
        )
    ):
        yield Case(f"upgrade/{number}", get + fields + b"\r\n", "either")
        yield Case(f"upgrade/{number}/then", get + fields + b"\r\n\x81\x05hello", "either")


def oversized() -> Iterator[Case]:
    """Heads over the limits (R22)."""
    get = b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH
    yield Case(
        "size/target", b"GET {AT}/" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "refuse"
    )
    yield Case(
        "size/query", b"GET {AT}?" + b"a" * 300_000 + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "refuse"
    )
    yield Case("size/method", b"G" * 70_000 + b" {AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "refuse")
    yield Case(
        "size/version", b"GET {AT} HTTP/1." + b"1" * 70_000 + b"\r\n" + HOST + AUTH + b"\r\n", "refuse"
    )
    yield Case("size/field", get + b"X: " + b"a" * 200_000 + b"\r\n\r\n", "refuse")
    yield Case("size/name", get + b"X" * 200_000 + b": 1\r\n\r\n", "refuse")
    yield Case(
        "size/fields",
        get + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(200)) + b"\r\n",
        "refuse",
    )
    yield Case("size/count", get + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"\r\n", "refuse")
    yield Case("size/count-huge", get + b"X: 1\r\n" * 30_000 + b"\r\n", "refuse")
    yield Case("size/endless-line", b"GET {AT}" + b"a" * 1_000_000, "refuse")
    yield Case("size/endless-field", get + b"X: " + b"a" * 1_000_000, "refuse")
    yield Case("size/endless-name", get + b"X" * 1_000_000, "refuse")
    yield Case("size/endless-fields", get + b"X: 1\r\n" * 100_000, "refuse")
    yield Case("size/blank-lines", b"\r\n" * 100_000, "refuse")
    yield Case(
        "size/fine-target", b"GET {AT}/" + b"a" * 30_000 + b" HTTP/1.1\r\n" + HOST + AUTH + b"\r\n", "pass"
    )
    yield Case("size/fine-field", get + b"X: " + b"a" * 30_000 + b"\r\n\r\n", "pass")
    yield Case("size/fine-count", get + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n", "pass")


def expectations() -> Iterator[Case]:
    """Expect other than 100-continue (R21)."""
    for number, value in enumerate(
        (
            b"200-ok", b"100-continue, x", b"x, 100-continue", b"100", b"100-continuex",
            b"100-continue;q=1", b'"100-continue"', b"1 00-continue", b"", b"100_continue", b"x=y",
        )
    ):
        yield Case(
            f"expect/{number}",
            LINE + HOST + AUTH + b"Expect: " + value + b"\r\nContent-Length: 5\r\n\r\nhello",
            "either" if value in {b"", b"100-continue, x"} else "refuse",
        )
    for number, value in enumerate((b"100-continue", b"100-Continue", b"100-CONTINUE")):
        yield Case(
            f"expect-good/{number}",
            LINE + HOST + AUTH + b"Expect: " + value + b"\r\nContent-Length: 5\r\n\r\nhello",
            "pass",
        )
    yield Case(
        "expect-twice",
        LINE
        + HOST
        + AUTH
        + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "either",
    )
    yield Case(
        "expect-1.0",
        b"POST {AT} HTTP/1.0\r\n" + HOST + AUTH + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "either",
    )


def connection_options() -> Iterator[Case]:
    """Connection may name anything; what we own still leaves as it should (R28-R30)."""
    for number, value in enumerate(
        (
            b"authorization", b"Authorization, close", b"host", b"content-length", b"transfer-encoding",
            b"cookie", b"x-forwarded-for", b"close, X-Hop", b"keep-alive, X-Hop", b"", b",", b"close,close",
            b"close, keep-alive", b"X-Hop,,,", b"te", b"TE, trailers", b"upgrade", b"via", b"date",
            b"expect", b"connection", b"X-Hop, " * 200 + b"x",
        )
    ):
        yield Case(
            f"connection/{number}",
            LINE + HOST + AUTH + b"Connection: " + value + b"\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nhello",
            "either",
        )
    for number, value in enumerate(
        (b"\x00", b"a b", b"(x)", b"\xff", b"close;x", b'"close"', b"a\rb", b"a\nb")
    ):
        yield Case(
            f"connection-bad/{number}",
            LINE + HOST + AUTH + b"Connection: " + value + b"\r\nContent-Length: 5\r\n\r\nhello",
            "either" if value not in {b"\x00", b"a\rb", b"a\nb"} else "refuse",
        )


def pipelines() -> Iterator[Case]:
    """After a refused request or one that closes, nothing behind it is run (R17, R18)."""
    refused = (
        LINE + HOST + AUTH + b"Content-Length: x\r\n\r\n",
        b"GET {AT} HTTP/9.9\r\n" + HOST + AUTH + b"\r\n",
        b"GET {AT} HTTP/1.1\r\n" + AUTH + b"\r\n",
        b"GET http://a{AT} HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        LINE + HOST + AUTH + b"Transfer-Encoding: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        LINE + HOST + AUTH + b"Expect: x\r\nContent-Length: 0\r\n\r\n",
        b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH + b"X : 1\r\n\r\n",
        b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH + b"X: \x00\r\n\r\n",
        b"\x00\r\n\r\n",
    )
    for number, data in enumerate(refused):
        yield Case(f"behind-refused/{number}", data + SMUGGLED, "refuse")
        yield Case(f"behind-refused/{number}/three", data + SMUGGLED * 3, "refuse")
    closing = (
        b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH + b"Connection: close\r\n\r\n",
        b"GET {AT} HTTP/1.0\r\n" + HOST + AUTH + b"\r\n",
        b"GET {AT} HTTP/1.1\r\n" + HOST + AUTH + b"Connection: x, close\r\n\r\n",
        LINE + HOST + AUTH + b"Connection: CLOSE\r\nContent-Length: 5\r\n\r\nhello",
    )
    for number, data in enumerate(closing):
        yield Case(f"behind-close/{number}", data + SMUGGLED, "either")
        yield Case(f"behind-close/{number}/three", data + SMUGGLED * 3, "either")
