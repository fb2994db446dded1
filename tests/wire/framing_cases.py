"""Hostile framing: codings, lengths, chunks, trailers (R2-R7)."""

from collections.abc import Iterator

from hostile import AUTH, CONTROLS, HIGH, HOST, LINE, SMUGGLED, Case, Expect, covered, is_token_byte

# Tables of bytes read better in rows.
# fmt: off


def _with_smuggled_body(name: str, framing: bytes, expect: Expect) -> Iterator[Case]:
    """A mangled coding beside a length that covers an inner request; once more with a length of the outer part."""
    inner = b"0\r\n\r\n" + SMUGGLED
    yield Case(name + "/covered", covered(framing, inner), expect)
    yield Case(name + "/alone", LINE + HOST + AUTH + framing + b"\r\n" + inner, "refuse")


CODINGS = (
    b",chunked", b"chunked,", b", chunked", b"chunked, ", b"chunked,chunked", b"chunked, chunked",
    b"chunked,identity", b"identity,chunked", b"identity, chunked", b"identity", b"gzip", b"gzip, chunked",
    b"chunked, gzip", b"deflate, chunked", b"compress", b"br", b"zstd", b"cow", b"xchunked", b"chunkedx",
    b"chunke", b"hunked", b"chunked1", b"chunk ed", b"chu\tnked", b'"chunked"', b"'chunked'", b"chunked;",
    b"chunked; q=1", b"chunked;foo=bar", b"chunked;q=0.5, identity;q=1", b"[chunked]", b"(chunked)",
    b"chunked(x)", b"chunked/1", b"=chunked", b"chunked=", b"chunked chunked", b"chunked identity", b"",
    b" ", b"\t", b",", b",,", b", ,", b"null", b"none", b"1", b"true", b"*", b"trailers", b"TE", b"http",
    b"chunked\\", b"\\chunked", b"%63hunked", b"c%68unked", b"&#99;hunked", b"=?utf-8?q?chunked?=",
    b"chun\xc4\xb7ed", b"\xef\xbb\xbfchunked", b"chunked\xc2\xa0", b"\xc2\xa0chunked",
    b"chunked\xe2\x80\x8b", b"c\xd2\xbbunked", b"\xe2\x84\xaaeep, chunked",
)


def transfer_codings() -> Iterator[Case]:
    """Values of Transfer-Encoding other than exactly ``chunked`` (R2, R3)."""
    for number, value in enumerate(CODINGS):
        yield from _with_smuggled_body(
            f"te-value/{number}", b"Transfer-Encoding: " + value + b"\r\n", "refuse"
        )
        chunked = b"5\r\nhello\r\n0\r\n\r\n"
        yield Case(
            f"te-value/{number}/chunks",
            LINE + HOST + AUTH + b"Transfer-Encoding: " + value + b"\r\n\r\n" + chunked,
            "refuse",
        )
    for byte in (*CONTROLS, *HIGH):
        label = byte.hex()
        for place, value in (
            ("before", byte + b"chunked"),
            ("after", b"chunked" + byte),
            ("inside", b"chun" + byte + b"ked"),
            ("space-before", b" " + byte + b" chunked"),
            ("space-after", b"chunked " + byte),
        ):
            yield from _with_smuggled_body(
                f"te-byte/{label}/{place}", b"Transfer-Encoding:" + value + b"\r\n", "refuse"
            )
    for number, pair in enumerate(
        (
            (b"chunked", b"chunked"), (b"chunked", b"identity"), (b"identity", b"chunked"),
            (b"chunked", b""), (b"", b"chunked"), (b"gzip", b"chunked"), (b"chunked", b"gzip"),
            (b"chunked", b"x"), (b"x", b"chunked"), (b"chunked", b"Chunked"),
        )
    ):
        lines = b"".join(b"Transfer-Encoding: " + value + b"\r\n" for value in pair)
        yield from _with_smuggled_body(f"te-twice/{number}", lines, "refuse")
        apart = (
            b"Transfer-Encoding: " + pair[0] + b"\r\nX-Between: 1\r\nTransfer-Encoding: " + pair[1] + b"\r\n"
        )
        yield from _with_smuggled_body(f"te-apart/{number}", apart, "refuse")
    body = b"5\r\nhello\r\n0\r\n\r\n"
    for spelling in (b"chunked", b"Chunked", b"CHUNKED", b"cHuNkEd"):
        for name in (b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"tRANSFER-eNCODING"):
            data = LINE + HOST + AUTH + name + b": " + spelling + b"\r\n\r\n" + body
            yield Case(f"te-good/{name.decode()}/{spelling.decode()}", data, "pass")


def transfer_coding_names() -> Iterator[Case]:
    """Field names that somebody could take for Transfer-Encoding or Content-Length (R9, R32)."""
    for real, value in ((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"4")):
        left, right = real.split(b"-")
        label = left.decode().lower()
        joints = [
            b"_", b".", b" ", b"", b"--", b"\t", b"\x00", b"\xad", b"\xe2\x80\x90", b"=", b"+", b"%2d",
            b"\r", b"\n", b"\r\n", b"\r\n ",
        ]
        for joint in joints:
            name = left + joint + right
            fine = all(is_token_byte(n) for n in name)
            for case in _with_smuggled_body(
                f"name-joint/{label}/{joint.hex()}",
                name + b": " + value + b"\r\n",
                "either" if fine else "refuse",
            ):
                if fine and case.name.endswith("/alone"):
                    continue  # without framing the rest is a pipelined request, and not a hidden one
                if value == b"4" and b"covered" in case.name.encode() and fine:
                    yield Case(case.name, case.data, "either")
                    continue
                yield case
        for byte in (
            *CONTROLS,
            *HIGH,
            b" ", b"\t", b'"', b"(", b")", b",", b"/", b";", b"<", b"=", b">", b"?", b"@", b"[", b"\\",
            b"]", b"{", b"}",
        ):
            for place, name in (
                ("before", byte + real),
                ("after", real + byte),
                ("inside", real[:5] + byte + real[5:]),
            ):
                if byte == b"\n" and place == "before":
                    continue  # a blank line's half: in head_lines
                yield Case(
                    f"name-byte/{label}/{byte.hex()}/{place}",
                    covered(name + b": " + value + b"\r\n", b"0\r\n\r\n" + SMUGGLED),
                    "refuse",
                )


LENGTHS = (
    b"", b" ", b"+5", b"-5", b"-0", b"+0", b"5 ", b"0x5", b"0X5", b"5h", b"5.0", b"5.", b".5", b"5e0",
    b"5,", b",5", b"5,5", b"5, 5", b"5, 6", b"5,,5", b"5 5", b"5\t5", b"5;", b"5; x", b'"5"', b"'5'",
    b"(5)", b"5_0", b"1_0", b"five", b"NaN", b"Infinity", b"null", b"true", b"05", b"005",
    b"0000000000000000005", b"00", b"5\x00", b"\x005", b"5\x0b", b"\x0b5", b"5\x0c", b"\x0c5", b"5\x1f",
    b"5\x7f", b"5\x85", b"\x855", b"5\xa0", b"\xa05", b"\xd9\xa5", b"\xef\xbc\x95", b"\xe2\x91\xa4",
    b"\xc2\xb2", b"5\r", b"5\n", b"\r5", b"\n5", b"5\r\n 5", b"5\r\n\t", b"\r\n 5", b"\r\n\t5", b"%35",
    b"&#53;", b"\\x35", b"5\\", b"5/", b"5:", b"5 bytes", b"1<<2", b"2+3", b"9223372036854775808",
    b"18446744073709551616", b"18446744073709551621", b"340282366920938463463374607431768211461",
    b"4294967301", b"9" * 40, b"9" * 400, b"0" * 400 + b"5", b"-1", b"-9223372036854775808", b"0b101",
    b"0o5", b"5L", b"5u", b"#5", b"$5", b"[5]",
)


def lengths() -> Iterator[Case]:
    """Values of Content-Length other than one canonical number (R4)."""
    for number, value in enumerate(LENGTHS):
        expect: Expect = "refuse"
        if value == b"5 ":  # surrounding whitespace is no part of a value: RFC 9112 §5
            expect = "pass"
        elif value in {b"05", b"005", b"0000000000000000005", b"0" * 400 + b"5"}:
            expect = "either"
        elif value == b"00":
            continue  # zero: the body behind it is a pipelined request
        elif value.isdigit() and len(value) >= 10:
            expect = "either"  # may be streamed until the caller stops; never as a smaller number
        data = LINE + HOST + AUTH + b"Content-Length: " + value + b"\r\n\r\nhello"
        yield Case(f"cl-value/{number}", data if expect == "pass" else data + b"", expect)
        if expect == "refuse":
            yield Case(f"cl-value/{number}/then", data + SMUGGLED, "refuse")
            yield Case(
                f"cl-value/{number}/tight",
                LINE + HOST + AUTH + b"Content-Length:" + value + b"\r\n\r\nhello" + SMUGGLED,
                "refuse",
            )
    pairs = [
        (b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b""), (b"", b"5"), (b"5", b"05"),
        (b"5", b"-5"), (b"5", b"x"), (b"5", b"5,5"),
    ]
    for number, (one, two) in enumerate(pairs):
        for between in (b"", b"X-Between: 1\r\n"):
            for second in (b"Content-Length", b"content-length", b"CONTENT-LENGTH"):
                head = b"Content-Length: " + one + b"\r\n" + between + second + b": " + two + b"\r\n"
                yield Case(
                    f"cl-twice/{number}/{len(between)}/{second.decode()}",
                    LINE + HOST + AUTH + head + b"\r\nhello" + SMUGGLED,
                    "refuse",
                )
    for value in (b"5", b" 5", b"\t5", b"  5", b"5\t", b" 5 \t "):
        yield Case(
            f"cl-good/{value.hex()}",
            LINE + HOST + AUTH + b"Content-Length:" + value + b"\r\n\r\nhello",
            "pass",
        )
    for method in (b"GET", b"DELETE", b"OPTIONS", b"PATCH", b"PUT"):
        yield Case(
            f"cl-method/{method.decode()}",
            method + LINE[4:] + HOST + AUTH + b"Content-Length: 5\r\n\r\nhello",
            "pass",
        )


def both_framings() -> Iterator[Case]:
    """Transfer-Encoding beside Content-Length, in both orders and all versions (R2, R5)."""
    inner = b"0\r\n\r\n" + SMUGGLED
    for version in (b"1.1", b"1.0"):
        line = b"POST {AT} HTTP/" + version + b"\r\n"
        for length in (b"{LEN}", b"0", b"5", b"4", b"6", b"1000"):
            for te in (
                b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:chunked\r\n",
                b"transfer-encoding: Chunked\r\n",
            ):
                cl = b"Content-Length: " + length + b"\r\n"
                label = f"{version.decode()}/{length.decode()}/{te.decode().strip()}"
                yield Case(f"cl-te/{label}", line + HOST + AUTH + cl + te + b"\r\n" + inner, "refuse")
                yield Case(f"te-cl/{label}", line + HOST + AUTH + te + cl + b"\r\n" + inner, "refuse")
        yield Case(
            f"te-only/{version.decode()}",
            line + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "pass" if version == b"1.1" else "refuse",
        )
        if version == b"1.0":
            yield Case(
                f"te-keep/{version.decode()}",
                line + HOST + AUTH + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + inner,
                "refuse",
            )
    for joiner in (
        b"Connection: Transfer-Encoding\r\n", b"Connection: Content-Length\r\n",
        b"Connection: close, Content-Length\r\n", b"Connection: host\r\n",
    ):
        yield Case(
            f"named/{joiner.decode().strip()}",
            LINE + HOST + AUTH + joiner + b"Content-Length: 5\r\n\r\nhello",
            "either",
        )


_SIZES = (
    b"+5", b"-5", b"0x5", b"0X5", b"5h", b"5_0", b"_5", b" 5", b"5 ", b"\t5", b"5\t", b"5 5", b"5,5", b"5.",
    b"5.0", b"", b" ", b"g", b"5g", b"G5", b"\x005", b"5\x00", b"5\x0b", b"\x0b5", b"5\x85", b"\xa05",
    b"5\xa0", b"\xef\xbc\x95", b"'5'", b'"5"', b"5'", b"(5)", b"-0", b"+0", b"-1", b"5;", b"5;;", b"5;a",
    b"5;a=b", b"5; a=b", b"5 ;a=b", b'5;a="b"', b'5;a="b', b'5;a="\r\n"', b"5;a=\n", b"5;\n", b"5;\r",
    b"5;a\rb", b"5;\x00", b"5;\x7f", b"5;\x80", b"5;a=b;c=d", b"5;=", b"5;=b", b"5;a=",
    b"5;" + b"a" * 20000, b"5\r", b"5\n", b"5\r\r", b"5\n\n", b"5\n\r", b"100000000000000005",
    b"10000000000000005", b"fffffffffffffffb", b"ffffffffffffffff", b"7fffffffffffffff",
    b"8000000000000000", b"FFFFFFFFFFFFFFFFFFFFFF", b"0" * 5000 + b"5", b"5" + b"0" * 30, b"1e1", b"0b101",
    b"5L", b"5u", b"5#", b"#5", b"5%", b"%35", b"5/", b"5:", b"5=",
)
_CHUNKED = LINE + HOST + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk_sizes() -> Iterator[Case]:
    """Chunk sizes that are not hex digits, and extensions of every shape (R6, R7)."""
    for number, size in enumerate(_SIZES):
        # RFC 9112 §7.1.1 makes a recipient ignore well-formed extensions; none may leave the proxy.
        fine = size in {
            b"5;a", b"5;a=b", b'5;a="b"', b"5;a=b;c=d", b"5; a=b", b"5 ;a=b", b"5;", b"5;;", b"5;=",
            b"5;=b", b"5;a=", b"5;\x80", b"5;" + b"a" * 20000,
        }
        fine = fine or size in {b"5 ", b"5\t", b"0" * 5000 + b"5"}
        expect: Expect = "either" if fine else "refuse"
        yield Case(
            f"chunk-size/{number}/first",
            _CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n" + (b"" if fine else SMUGGLED),
            expect if fine else "refuse",
        )
        yield Case(
            f"chunk-size/{number}/second",
            _CHUNKED + b"3\r\nabc\r\n" + size + b"\r\nhello\r\n0\r\n\r\n",
            "either",
        )
        last = size.replace(b"5", b"0", 1)
        yield Case(f"chunk-size/{number}/last", _CHUNKED + b"3\r\nabc\r\n" + last + b"\r\n\r\n", "either")
    for size, text in (
        (b"5", b"hello"), (b"05", b"hello"), (b"0005", b"hello"), (b"A", b"0123456789"),
        (b"a", b"0123456789"), (b"00000a", b"0123456789"),
    ):
        yield Case(f"chunk-good/{size.decode()}", _CHUNKED + size + b"\r\n" + text + b"\r\n0\r\n\r\n", "pass")
    for size, text in ((b"4", b"hello"), (b"6", b"hello"), (b"0", b"hello"), (b"1", b""), (b"ff", b"hello")):
        yield Case(
            f"chunk-miscount/{size.decode()}", _CHUNKED + size + b"\r\n" + text + b"\r\n0\r\n\r\n", "either"
        )


CHUNK_ENDS = (
    b"\n", b"\r", b"\r\r", b"\n\n", b"\n\r", b"\r\r\n", b"\rX", b"X\r\n", b"\x00\r\n", b" \r\n", b"\t\r\n",
    b"", b"\r\n\r\n", b"\r\n ", b"\x85", b"\xe2\x80\xa8", b"\x0b", b"\x0c", b"\\r\\n", b"\r\x00\n",
)


def chunk_ends() -> Iterator[Case]:
    """Line ends inside chunked framing that are not CRLF (R7)."""
    whole = (b"5", b"\r\n", b"hello", b"\r\n", b"0", b"\r\n", b"\r\n")
    for number, end in enumerate(CHUNK_ENDS):
        for place, at in (("size", 1), ("data", 3), ("last", 5), ("close", 6)):
            parts = list(whole)
            parts[at] = end
            behind = (
                b"" if end == b"\r\n\r\n" and at >= 5 else SMUGGLED
            )  # there it is an ordinary next request
            yield Case(f"chunk-end/{place}/{number}", _CHUNKED + b"".join(parts) + behind, "either")
        fine = end in {
            b"X\r\n", b" \r\n", b"\t\r\n",
        }  # an extension of another name: what follows is an ordinary request
        behind = b"" if fine or end == b"\r\n\r\n" else SMUGGLED
        ext = _CHUNKED + b"5;x" + end + b"hello\r\n0\r\n\r\n"
        yield Case(f"chunk-end/ext/{number}", ext + (b"" if fine else SMUGGLED), "either")
        yield Case(
            f"chunk-end/last-ext/{number}", _CHUNKED + b"5\r\nhello\r\n0;x" + end + b"\r\n" + behind, "either"
        )


def trailers() -> Iterator[Case]:
    """Trailer sections: never passed on, and nothing in them may be framing (R7, R54)."""
    good = (b"X-Sum: 1", b"Content-MD5: x", b"X-A: 1\r\nX-B: 2", b"x:")
    bad = (
        b"X", b"X : 1", b" X: 1", b": 1", b"X\x00: 1", b"X: \x00", b"X: a\rb", b"X: a\nb", b"X: 1\n",
        b"X: 1\r\n folded", b"(X): 1", b"\xffX: 1", b"X\tY: 1",
    )
    framing = (
        b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: other.example",
        b"Authorization: Bearer x", b"Connection: close", b"Trailer: X", b"Expect: 100-continue",
    )
    for number, lines in enumerate(good):
        yield Case(
            f"trailer-good/{number}", _CHUNKED + b"5\r\nhello\r\n0\r\n" + lines + b"\r\n\r\n", "either"
        )
    for number, lines in enumerate(framing):
        yield Case(
            f"trailer-framing/{number}", _CHUNKED + b"5\r\nhello\r\n0\r\n" + lines + b"\r\n\r\n", "either"
        )
    for number, lines in enumerate(bad):
        yield Case(f"trailer-bad/{number}", _CHUNKED + b"5\r\nhello\r\n0\r\n" + lines + b"\r\n\r\n", "either")
    yield Case(
        "trailer-many",
        _CHUNKED + b"0\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
        "either",
    )
    yield Case("trailer-long", _CHUNKED + b"0\r\nX: " + b"a" * 400_000 + b"\r\n\r\n", "either")
    for number, value in enumerate(
        (
            b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"X-Sum", b"X-Sum, X-Other",
            b"\x00", b"",
        )
    ):
        expect: Expect = "refuse" if value == b"\x00" else "either"
        yield Case(
            f"trailer-announced/{number}",
            LINE + HOST + AUTH + b"Trailer: " + value + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            expect,
        )
