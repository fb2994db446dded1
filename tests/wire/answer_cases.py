"""Hostile answers of upstreams (R42-R50, R52, R55)."""

from collections.abc import Iterator

from framing_cases import CHUNK_ENDS, CODINGS, LENGTHS
from hostile import CONTROLS, HIGH, Answer, Verdict

# Tables of bytes read better in rows.
# fmt: off

OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"Content-Type: text/plain\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
CHUNKED = OK + TEXT + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = OK + TEXT + b"Content-Length: 5\r\n\r\nhello"


def lengths() -> Iterator[Answer]:
    """Content-Length other than one canonical number (R47)."""
    for number, value in enumerate(LENGTHS):
        verdict: Verdict = "bad"
        if value == b"5 ":
            verdict = "good"
        elif value.isdigit():
            verdict = "either" if value.startswith(b"0") else "cut"
        yield Answer(
            f"cl-value/{number}",
            (OK + b"Content-Length: " + value + b"\r\n\r\nhello",),
            verdict,
            body=b"hello",
        )
    pairs = (
        (b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b""), (b"", b"5"), (b"5", b"x"),
        (b"5", b"-5"), (b"5", b"5, 5"),
    )
    for number, (one, two) in enumerate(pairs):
        head = OK + b"Content-Length: " + one + b"\r\ncontent-length: " + two + b"\r\n\r\n"
        yield Answer(f"cl-twice/{number}", (head + b"hello",), "either" if one == two else "bad")
    for name in (
        b"Content-Length ", b" Content-Length", b"Content-Length\t", b"Content-Length\x00",
        b"Content\rLength", b"Content Length", b"\xffContent-Length",
    ):
        yield Answer(f"cl-name/{name.hex()}", (OK + name + b": 5\r\n\r\nhello",), "bad")
    for name in (b"Content_Length", b"Content.Length", b"Content-Length_"):
        yield Answer(
            f"cl-look/{name.decode()}", (OK + name + b": 3\r\nContent-Length: 5\r\n\r\nhello",), "either"
        )


def codings() -> Iterator[Answer]:
    """Transfer-Encoding other than exactly ``chunked``, or beside a length (R47)."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    for number, value in enumerate(CODINGS):
        yield Answer(f"te-value/{number}", (OK + b"Transfer-Encoding: " + value + b"\r\n\r\n" + body,), "bad")
    for byte in (*CONTROLS, *HIGH):
        for place, value in (("before", byte + b"chunked"), ("after", b"chunked" + byte)):
            yield Answer(
                f"te-byte/{byte.hex()}/{place}",
                (OK + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body,),
                "bad",
            )
    for spelling in (b"chunked", b"Chunked", b"CHUNKED"):
        for name in (b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"):
            data = OK + name + b": " + spelling + b"\r\n\r\n" + body
            yield Answer(f"te-good/{name.decode()}/{spelling.decode()}", (data,), "good", body=b"hello")
    for number, lines in enumerate(
        (
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n",
            b"Content-Length: x\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n",
            b" Transfer-Encoding: chunked\r\n", b"Transfer-Encoding\x00: chunked\r\n",
            b"X: 1\r\n Transfer-Encoding: chunked\r\n",
        )
    ):
        yield Answer(f"te-lines/{number}", (OK + lines + b"\r\n" + body,), "bad")
    yield Answer("te-1.0", (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body,), "either")
    for look in (b"Transfer_Encoding", b"Transfer.Encoding"):
        yield Answer(
            f"te-look/{look.decode()}",
            (OK + look + b": chunked\r\nContent-Length: 5\r\n\r\nhello",),
            "either",
        )


def chunks() -> Iterator[Answer]:
    """Chunk sizes, ends, extensions and trailers (R6, R7, R47); the head may be out already, so a cut is right too."""
    bad = (
        b"+5", b"-5", b"0x5", b"5_0", b"_5", b" 5", b"", b"g", b"5g", b"\x005", b"5\x00", b"5,5", b"5.0",
        b"ffffffffffffffff1", b"fffffffffffffffffffff", b"-0", b"'5'", b"5\xa0", b"\xef\xbc\x95", b"5;\x00",
        b"5;a\rb", b"5;a\nb", b"5\r", b"5 5",
    )
    for number, size in enumerate(bad):
        yield Answer(f"chunk-size/{number}/first", (CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n",), "cut")
        yield Answer(
            f"chunk-size/{number}/second",
            (CHUNKED + b"3\r\nabc\r\n", size + b"\r\nhello\r\n0\r\n\r\n"),
            "cut",
        )
    for number, size in enumerate(
        (
            b"5;a", b"5;a=b", b'5;a="b"', b"5;a=b;c=d", b"5 ;a", b"5; a", b"5 ", b"5\t", b"5;",
            b"5;" + b"a" * 3000,
        )
    ):
        yield Answer(
            f"chunk-ext/{number}", (CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n",), "either", body=b"hello"
        )
    for size in (b"05", b"0005"):
        yield Answer(
            f"chunk-zeros/{size.decode()}",
            (CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n",),
            "good",
            body=b"hello",
        )
    yield Answer("chunk-many", (CHUNKED + b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n",), "good", body=b"x" * 2000)
    whole = (b"5", b"\r\n", b"hello", b"\r\n", b"0", b"\r\n", b"\r\n")
    for number, end in enumerate(CHUNK_ENDS):
        for place, at in (("size", 1), ("data", 3), ("last", 5), ("close", 6)):
            if end == b"\r\n\r\n" and at >= 5:
                continue  # the end, and bytes behind it: in extra()
            parts = list(whole)
            parts[at] = end
            lenient = place == "size" and end in {
                b" \r\n", b"\t\r\n",
            }  # RFC 9112 section 7.1.1 lets whitespace stand there
            lenient = lenient or (
                place == "close" and end.startswith(b"\r\n")
            )  # the end, and a byte behind it
            lenient = lenient or (place == "last" and end in {b" \r\n", b"\t\r\n"})
            yield Answer(
                f"chunk-end/{place}/{number}", (CHUNKED + b"".join(parts),), "either" if lenient else "cut"
            )
    for number, lines in enumerate(
        (
            b"X-Sum: 1", b"X-A: 1\r\nX-B: 2", b"Content-Length: 3", b"Transfer-Encoding: chunked",
            b"Set-Cookie: a=b", b"x:",
        )
    ):
        yield Answer(
            f"trailer/{number}",
            (CHUNKED + b"5\r\nhello\r\n0\r\n" + lines + b"\r\n\r\n",),
            "either",
            body=b"hello",
        )
    for number, lines in enumerate(
        (b"X", b"X : 1", b" X: 1", b": 1", b"X: \x00", b"X: a\rb", b"X: a\nb", b"(X): 1")
    ):
        yield Answer(
            f"trailer-bad/{number}", (CHUNKED + b"5\r\nhello\r\n0\r\n" + lines + b"\r\n\r\n",), "cut"
        )
    yield Answer("trailer-endless", (CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 100_000,), "cut")
    yield Answer("chunk-size-endless", (CHUNKED + b"5" * 300_000,), "cut")


def status_lines() -> Iterator[Answer]:
    """Status lines (R11, R46, R55)."""
    rest = b"\r\nContent-Length: 5\r\n\r\nhello"
    bad = (
        b"HTTP/1.1 99 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 999 OK", b"HTTP/1.1 1000 OK", b"HTTP/1.1 000 OK",
        b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2 OK", b"HTTP/1.1 -200 OK", b"HTTP/1.1 +200 OK",
        b"HTTP/1.1 0200 OK", b"HTTP/1.1 2x0 OK", b"HTTP/1.1 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK",
        b" HTTP/1.1 200 OK", b"HTTP/1.1200 OK", b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/3 200 OK",
        b"HTTP/0.9 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.10 200 OK", b"HTTP/9.9 200 OK", b"http/1.1 200 OK",
        b"RTSP/1.0 200 OK", b"ICY 200 OK", b"SIP/2.0 200 OK", b"HTTPS/1.1 200 OK", b"HTTP/1.1\x00 200 OK",
        b"HTTP/1.1 200\x00 OK", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\nK", b"200 OK", b"GET / HTTP/1.1",
        b"", b"HTTP/1.1", b"HTTP/1.1 ", b"\x00HTTP/1.1 200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK",
        b"HTTP/1.1 \xef\xbc\x92\xef\xbc\x90\xef\xbc\x90 OK",
    )
    for number, line in enumerate(bad):
        yield Answer(f"status-line/{number}", (line + rest,), "bad")
    for number, line in enumerate(
        (
            b"HTTP/1.1 200 ", b'HTTP/1.1 200 It\'s all (very) fine: "yes"', b"HTTP/1.1 299 Odd",
            b"HTTP/1.1 418 I'm a teapot", b"HTTP/1.1 451 x", b"HTTP/1.1 599 x",
            b"HTTP/1.1 520 Web server says no", b"HTTP/1.1 444 x", b"HTTP/1.1 226 IM Used",
        )
    ):
        yield Answer(f"status-good/{number}", (line + rest,), "good", body=b"hello")
    for number, line in enumerate(
        (
            b"HTTP/1.1 200", b"HTTP/1.1 200 \xc3\xa9", b"HTTP/1.1 200 \xff", b"HTTP/1.1 200 " + b"a" * 5000,
            b"HTTP/1.1 200 a\tb", b"HTTP/1.1 200  OK",
            b"HTTP/1.1 200 O\x00K",  # no part of the meaning: an empty reason in its place is right too
            b"HTTP/1.1 200 O\x08K", b"HTTP/1.1 200 O\x7fK",
        )
    ):
        yield Answer(f"status-odd/{number}", (line + rest,), "either", body=b"hello")
    yield Answer("status-endless", (b"HTTP/1.1 200 " + b"a" * 1_000_000,), "bad")
    yield Answer(
        "version-1.0", (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",), "good", body=b"hello"
    )
    yield Answer("version-1.0-eof", (b"HTTP/1.0 200 OK\r\n\r\nhello",), "good", body=b"hello")


def heads() -> Iterator[Answer]:
    """Bytes, line ends, folds and sizes in the head (R8, R9, R47, R52)."""
    rest = b"Content-Length: 5\r\n\r\nhello"
    for n in (*range(9), *range(10, 32), 127):
        byte = bytes([n])
        yield Answer(f"value-byte/{n:02x}", (OK + b"X-A: a" + byte + b"b\r\n" + rest,), "bad")
    for n in (
        0,
        1,
        9,
        11,
        13,
        32,
        34,
        40,
        41,
        44,
        47,
        59,
        60,
        64,
        91,
        92,
        93,
        123,
        125,
        127,
        128,
        160,
        194,
        255,
    ):
        byte = bytes([n])
        yield Answer(f"name-byte/{n:02x}", (OK + b"X-" + byte + b"A: 1\r\n" + rest,), "bad")
        yield Answer(f"name-end/{n:02x}", (OK + b"X-A" + byte + b": 1\r\n" + rest,), "bad")
    for byte in HIGH:
        yield Answer(
            f"value-high/{byte.hex()}", (OK + b"X-A: a" + byte + b"b\r\n" + rest,), "either", body=b"hello"
        )
    for number, end in enumerate((b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x0b", b"\x85", b"\r \n", b"\r\x00\n")):
        in_reason: Verdict = "either" if end in {b"\x0b", b"\x85"} else "bad"
        in_value: Verdict = "either" if end == b"\x85" else "bad"
        yield Answer(f"line-end/status/{number}", (b"HTTP/1.1 200 OK" + end + rest,), in_reason)
        yield Answer(f"line-end/field/{number}", (OK + b"X-A: 1" + end + b"X-B: 2\r\n" + rest,), in_value)
        yield Answer(
            f"line-end/all/{number}",
            (end.join((b"HTTP/1.1 200 OK", b"Content-Length: 5", b"", b"hello")),),
            "bad",
        )
    for number, fold in enumerate((b"\r\n ", b"\r\n\t", b"\n ", b"\r ")):
        yield Answer(f"fold/{number}", (OK + b"X-A: 1" + fold + b"2\r\n" + rest,), "bad")
        yield Answer(f"fold/split/{number}", (OK + b"X-A: 1" + fold + b"Set-Cookie: a=b\r\n" + rest,), "bad")
    for number, line in enumerate((b"X", b": 1", b":", b"X A: 1", b"HTTP/1.1 200 OK", b"=")):
        yield Answer(f"line/{number}", (OK + line + b"\r\n" + rest,), "bad")
    yield Answer(
        "size/fields-200",
        (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + rest,),
        "good",
        body=b"hello",
    )
    yield Answer(
        "size/64k",
        (OK + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 8000) for n in range(8)) + rest,),
        "good",
        body=b"hello",
    )
    yield Answer("size/one-60k", (OK + b"X: " + b"a" * 60_000 + b"\r\n" + rest,), "good", body=b"hello")
    yield Answer("size/1m", (OK + b"X: " + b"a" * 1_000_000 + b"\r\n" + rest,), "bad")
    yield Answer("size/fields-endless", (OK + b"X: 1\r\n" * 200_000,), "bad")
    yield Answer("size/name-endless", (OK + b"X" * 1_000_000,), "bad")
    for byte_at in range(1, len(HELLO), 7):
        yield Answer(f"slices/{byte_at}", (HELLO[:byte_at], HELLO[byte_at:]), "good", body=b"hello")
    yield Answer("slices/all", tuple(HELLO[n : n + 1] for n in range(len(HELLO))), "good", body=b"hello")


def bodiless() -> Iterator[Answer]:
    """HEAD, 204, 304 and 1xx have no body, whatever their fields say (R49, R50)."""
    for status in (b"204 No Content", b"304 Not Modified"):
        line = b"HTTP/1.1 " + status + b"\r\n"
        for number, rest in enumerate(
            (
                b"\r\n", b"Content-Length: 5\r\n\r\n", b"Content-Length: 5\r\n\r\nhello",
                b"Transfer-Encoding: chunked\r\n\r\n",
                b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"\r\nhello",
                b"\r\n" + POISON,
                b"Content-Length: 0\r\n\r\n",
            )
        ):
            yield Answer(
                f"bodiless/{status[:3].decode()}/{number}",
                (line + rest,),
                "good" if number == 0 else "either",
                body=b"",
            )
    for number, rest in enumerate(
        (
            b"Content-Length: 5\r\n\r\n", b"Content-Length: 5\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n",
            b"\r\n" + POISON,
            b"Content-Length: 999999\r\n\r\n",
        )
    ):
        yield Answer(
            f"bodiless/head/{number}",
            (OK + rest,),
            "good" if number in {0, 3, 5} else "either",
            body=b"",
            method=b"HEAD",
        )
    for status in (100, 102, 103, 110, 199):
        interim = b"HTTP/1.1 %d Interim\r\n" % status
        yield Answer(f"interim/{status}", (interim + b"\r\n" + HELLO,), "good", body=b"hello")
        yield Answer(
            f"interim/{status}/fields",
            (interim + b"Link: </a>\r\nX: 1\r\n\r\n", HELLO),
            "good",
            body=b"hello",
        )
        yield Answer(
            f"interim/{status}/twice", (interim + b"\r\n", interim + b"\r\n", HELLO), "good", body=b"hello"
        )
        yield Answer(f"interim/{status}/length", (interim + b"Content-Length: 3\r\n\r\nabc" + HELLO,), "bad")
        yield Answer(f"interim/{status}/alone", (interim + b"\r\n",), "bad")
        yield Answer(f"interim/{status}/bad", (interim + b"X : 1\r\n\r\n" + HELLO,), "bad")
    yield Answer("interim/endless", (b"HTTP/1.1 103 x\r\n\r\n" * 50_000,), "bad")
    for number, rest in enumerate(
        (
            b"\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"Upgrade: h2c\r\n\r\n",
            b"Content-Length: 5\r\n\r\nhello",
            b"\r\n" + HELLO,
        )
    ):
        yield Answer(f"switching/{number}", (b"HTTP/1.1 101 Switching Protocols\r\n" + rest,), "bad")
    yield Answer(
        "upgrade-in-200",
        (OK + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",),
        "good",
        body=b"hello",
    )
    yield Answer(
        "upgrade-426",
        (b"HTTP/1.1 426 x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\nContent-Length: 5\r\n\r\nhello",),
        "good",
        body=b"hello",
    )


def truncations() -> Iterator[Answer]:
    """Bodies that end early, by every kind of end (R45), and heads that never come (R46)."""
    chunked = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    for then in ("finish", "cut", "reset"):
        for have in (0, 1, 5, 9):
            yield Answer(
                f"short/{then}/{have}", (OK + b"Content-Length: 10\r\n\r\n" + b"a" * have,), "cut", then
            )
        yield Answer(
            f"short/{then}/large", (OK + b"Content-Length: 2000000\r\n\r\n" + b"a" * 300_000,), "cut", then
        )
        for at in range(len(chunked)):
            yield Answer(f"short-chunks/{then}/{at}", (CHUNKED + chunked[:at],), "cut", then)
        for at in (0, 1, 5, 9, 12, 15, 17, 30, len(HELLO) - 7):
            yield Answer(f"no-head/{then}/{at}", (HELLO[:at],), "bad", then)
        yield Answer(
            f"until-end/{then}",
            (OK + TEXT + b"\r\nhello",),
            "good" if then == "finish" else "cut",
            then,
            body=b"hello",
        )
        yield Answer(
            f"until-end/{then}/close",
            (OK + b"Connection: close\r\n\r\nhello",),
            "good" if then == "finish" else "cut",
            then,
            body=b"hello",
        )
    for number, garbage in enumerate(
        (
            b"hello\r\n", b"\x00" * 50, b"\xff" * 50, b"<html>no</html>", b"HTTP", b"\r\n\r\n\r\n", b"\n",
            b"SSH-2.0-x\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"{}", b"HTTP/1.1 200 OK\n\nhello",
        )
    ):
        yield Answer(f"garbage/{number}", (garbage,), "bad")


def extra() -> Iterator[Answer]:
    """Bytes after the end: this answer stands, the connection is not used again (R48)."""
    chunked = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"
    heads_only = {
        "204": (b"HTTP/1.1 204 x\r\n\r\n", b"GET"),
        "head": (OK + b"Content-Length: 5\r\n\r\n", b"HEAD"),
        "zero": (OK + b"Content-Length: 0\r\n\r\n", b"GET"),
    }
    for number, more in enumerate((POISON, b"\r\n", b"x", b"\x00", b"HTTP/1.1 500 x\r\n", b"\r\n" + POISON)):
        for name, whole in (("length", HELLO), ("chunked", chunked)):
            for how, parts in (("together", (whole + more,)), ("apart", (whole, more))):
                yield Answer(
                    f"extra/{name}/{number}/{how}", parts, "either", "keep", body=b"hello", extra=True
                )
        for name, (whole, method) in heads_only.items():
            yield Answer(f"extra/{name}/{number}", (whole + more,), "either", "keep", b"", method, extra=True)


FAMILIES = (lengths, codings, chunks, status_lines, heads, bodiless, truncations, extra)
