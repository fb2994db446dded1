"""Hostile bytes, lines and hosts in the head (R8-R10, R14, R16)."""

from collections.abc import Iterator

from hostile import AUTH, HOST, SMUGGLED, Case, Expect, is_token_byte

# Tables of bytes read better in rows.
# fmt: off


def head_bytes() -> Iterator[Case]:
    """Every byte value at every kind of place in the head (R8, R9, R13, R14, R19)."""
    end = HOST + AUTH + b"\r\n"
    for n in range(256):
        byte = bytes([n])
        token = is_token_byte(n)
        if byte not in b"\r\n":
            if not token and byte != b" ":
                yield Case(f"byte/method/{n:02x}", b"GE" + byte + b"T {AT} HTTP/1.1\r\n" + end, "refuse")
            if not (0x21 <= n <= 0x7E) and byte != b" ":
                yield Case(f"byte/target/{n:02x}", b"GET {AT}/a" + byte + b"b HTTP/1.1\r\n" + end, "refuse")
                yield Case(f"byte/query/{n:02x}", b"GET {AT}?a=" + byte + b" HTTP/1.1\r\n" + end, "refuse")
            yield Case(f"byte/version/{n:02x}", b"GET {AT} HTTP/1.1" + byte + b"\r\n" + end, "refuse")
            yield Case(
                f"byte/first/{n:02x}", byte + b"GET {AT} HTTP/1.1\r\n" + end, "either" if token else "refuse"
            )
        if not token and byte != b":":
            yield Case(f"byte/name/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-" + byte + b"A: 1\r\n" + end, "refuse")
            yield Case(
                f"byte/name-end/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-A" + byte + b": 1\r\n" + end, "refuse"
            )
        if byte not in b"\t " and (n < 0x20 or n == 0x7F):
            yield Case(
                f"byte/value/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-A: a" + byte + b"b\r\n" + end, "refuse"
            )
            yield Case(
                f"byte/value-end/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-A: a" + byte + b"\r\n" + end, "refuse"
            )
        elif n >= 0x80:
            yield Case(
                f"byte/value/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-A: a" + byte + b"b\r\n" + end, "either"
            )
        else:
            yield Case(f"byte/value/{n:02x}", b"GET {AT} HTTP/1.1\r\nX-A: a" + byte + b"b\r\n" + end, "pass")


def head_lines() -> Iterator[Case]:
    """Line ends and folds in the head (R8), and odd but legal field lines (R16)."""
    get = b"GET {AT} HTTP/1.1"
    key = AUTH[:-2]
    for number, end in enumerate(
        (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\n", b"\x0b", b"\x85", b"\r \n", b"\x00\r\n", b"\r\x00\n")
    ):
        yield Case(f"end/start-line/{number}", get + end + HOST + AUTH + b"\r\n", "refuse")
        yield Case(f"end/host/{number}", get + b"\r\nHost: proxy.example" + end + AUTH + b"\r\n", "refuse")
        yield Case(
            f"end/field/{number}",
            get + b"\r\n" + HOST + key + b"\r\nX-A: 1" + end + b"X-B: 2\r\n\r\n",
            "either" if end == b"\x85" else "refuse",  # part of the value: obs-text
        )
        yield Case(
            f"end/last/{number}",
            get + b"\r\n" + HOST + AUTH + end,
            "either" if end == b"\r\n\n" else "refuse",
        )
        yield Case(f"end/all/{number}", end.join((get, HOST[:-2], key, b"", b"")), "refuse")
        yield Case(
            f"end/smuggle/{number}",
            get + b"\r\n" + HOST + key + b"\r\nX-A: 1" + end + end + SMUGGLED,
            "refuse",
        )
    for number, fold in enumerate(
        (b"\r\n ", b"\r\n\t", b"\r\n  ", b"\r\n \t", b"\n ", b"\r ", b"\r\n \r\n ")
    ):
        yield Case(
            f"fold/value/{number}", get + b"\r\n" + HOST + AUTH + b"X-A: 1" + fold + b"2\r\n\r\n", "refuse"
        )
        yield Case(
            f"fold/empty/{number}", get + b"\r\n" + HOST + AUTH + b"X-A:" + fold + b"2\r\n\r\n", "refuse"
        )
        yield Case(f"fold/first/{number}", get + fold + b"X-A: 1\r\n" + HOST + AUTH + b"\r\n", "refuse")
        yield Case(
            f"fold/smuggle/{number}",
            get + b"\r\n" + HOST + AUTH + b"X-A: 1" + fold + b"Transfer-Encoding: chunked\r\n\r\n",
            "refuse",
        )
    for number, line in enumerate(
        (
            b"X", b"X 1", b": 1", b":", b" : 1", b"X : 1", b"X\t: 1", b"X:1:2 :", b"=", b"X A: 1",
            b"GET / HTTP/1.1", b"\x00", b"{}: 1", b"X-\xc3\xa9: 1",
        )
    ):
        expect: Expect = "pass" if line == b"X:1:2 :" else "refuse"
        yield Case(f"line/{number}", get + b"\r\n" + HOST + AUTH + line + b"\r\n\r\n", expect)
    for number, line in enumerate(
        (
            b"X-Empty:", b"X-Empty: ", b"X-Tab:\t1", b"x-CASE: 1", b"X-Wide:    1", b"X-Trail: 1   ",
            b"!#$%&'*+-^`|~: 1", b"1: 1", b'X-Quote: "a\\"b"', b"X-Colon: a:b:c", b"Cookie: a=b; c=d",
        )
    ):
        yield Case(f"line-good/{number}", get + b"\r\n" + HOST + AUTH + line + b"\r\n\r\n", "pass")
    for number, line in enumerate(
        (
            b"X_Under: 1", b"X.Dot: 1", b"Content_Length: 5", b"Transfer.Encoding: chunked",
            b"Authorization_: x", b"X-Forwarded_For: 1.2.3.4", b"Authori_zation: x", b"Host_: x",
        )
    ):
        yield Case(f"line-fold/{number}", get + b"\r\n" + HOST + AUTH + line + b"\r\n\r\n", "either")
    for number, lead in enumerate(
        (b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b" \r\n", b"\x00", b"\xef\xbb\xbf")
    ):
        yield Case(
            f"lead/{number}",
            lead + get + b"\r\n" + HOST + AUTH + b"\r\n",
            "either" if lead in {b"\r\n", b"\r\n\r\n", b"\n", b"\r"} else "refuse",
        )


def hosts() -> Iterator[Case]:
    """Exactly one valid Host (R10)."""
    bad = (
        b"a b", b"a,b", b"a/b", b"a?b", b"a#b", b"a@b", b"user:pw@a", b"a\\b", b"a\x00b", b"a\x7fb",
        b"\xffa", b"a:b", b"a:1:2", b"a:999999", b"a:-1", b"a:+1", b"[::1", b"::1]", b"[::g]", b"[::1]a",
        b"http://a", b"a;b", b"a=b<", b"a>b", b'a"b', b"{a}", b"a|b^", b"a`b", b"%", b"a%zz", b"[]",
        b"[1.2.3.4", b"a:80:80", b"a\tb", b"a: 80", b" a b",
    )
    for number, value in enumerate(bad):
        yield Case(
            f"host-bad/{number}", b"GET {AT} HTTP/1.1\r\nHost: " + value + b"\r\n" + AUTH + b"\r\n", "refuse"
        )
    for number, lines in enumerate(
        (
            b"",
            HOST * 2,
            HOST + b"host: other.example\r\n",
            b"Host: a\r\nX: 1\r\nHost: a\r\n",
            b"Host:\r\n" + HOST,
            HOST + b"Host:\r\n",
            HOST + b"HOST: \r\n",
            b"Hos: a\r\n", b"Host : a\r\n", b" Host: a\r\n",
        )
    ):
        yield Case(f"host-count/{number}", b"GET {AT} HTTP/1.1\r\n" + lines + AUTH + b"\r\n", "refuse")
    for number, value in enumerate(
        (
            b"proxy.example", b"proxy.example:8080", b"127.0.0.1", b"[::1]", b"[::1]:80", b"PROXY.example",
            b"a", b"a-b.c", b"xn--a", b"up.example", b"169.254.169.254",
        )
    ):
        yield Case(
            f"host-good/{number}", b"GET {AT} HTTP/1.1\r\nHost: " + value + b"\r\n" + AUTH + b"\r\n", "pass"
        )
    for number, value in enumerate((b"", b"a.", b"a_b", b"a:", b"a:0", b"*", b"a..b", b"-", b"a:00080")):
        yield Case(
            f"host-odd/{number}", b"GET {AT} HTTP/1.1\r\nHost: " + value + b"\r\n" + AUTH + b"\r\n", "either"
        )
