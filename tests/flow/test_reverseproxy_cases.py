"""The cases that Go's ReverseProxy is tested with, and those of node-http-proxy, Caddy, nginx and HAProxy that apply.

Comments name the origin: GO and the number in its list of 43, NHP, CAD, NGX, HAP. What they test of their own
programming interface (hooks, buffer pools, wrapped writers) has no counterpart here.
"""

import asyncio
import hashlib
import os

import pytest
from support import strict
from support.lab import HOST, Lab
from support.proxy import TOKEN, service_file
from support.raw import document
from support.upstream import Gone, Peer, answer, chunk, one_after_another, replying


def fields(echoed: strict.Message) -> list[tuple[str, str]]:
    """The fields that the upstream saw, names in lower case."""
    return [(name.lower(), value) for name, value in document(echoed)["fields"]]


def only(echoed: strict.Message, name: str) -> list[str]:
    return [value for key, value in fields(echoed) if key == name]


async def test_head_and_body_arrive(lab: Lab) -> None:
    """Status, fields, cookies and repeated values of the answer arrive in order (GO 1, R38, R43)."""
    await lab.upstream.fresh(
        replying(
            answer(
                404,
                b"nope",
                (b"X-Multi", b"1"),
                (b"x-multi", b"2"),
                (b"Set-Cookie", b"a=1"),
                (b"Set-Cookie", b"b=2, c"),
                (b"X-MiXeD", b"Kept"),
                reason=b"Not Here",
            )
        )
    )
    got = await lab.call("GET", "/test/x")
    assert (got.status, got.body) == (404, b"nope")
    assert got.values("x-multi") == [b"1", b"2"]
    assert got.values("set-cookie") == [b"a=1", b"b=2, c"]
    assert (b"X-MiXeD", b"Kept") in got.fields
    assert got.values("via") == [b"1.1 connector-proxy"]
    assert got.values("proxy-status") == []


async def test_request_loses_what_is_ours_and_hop_by_hop(lab: Lab) -> None:
    """Hop-by-hop fields, the key and the caller's host stay here; the account's token goes out once (GO 1, R28, R31, R36)."""
    got = await lab.call(
        "GET",
        "/test/x",
        fields=[
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("TE", "trailers, deflate"),
            ("Trailer", "X-Sum"),
            ("X-Kept", "yes"),
        ],
    )
    names = {name for name, _ in fields(got)}
    assert not names & {
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "trailer",
        "upgrade",
    }
    assert only(got, "te") in ([], ["trailers"])
    assert lab.upstream.seen()[-1].values("authorization") == [f"Bearer {TOKEN}".encode()]
    assert only(got, "host") == [HOST]
    assert only(got, "x-kept") == ["yes"]
    assert document(got)["sni"] == HOST
    assert lab.proxy.key.encode() not in bytes(lab.upstream.peers[0].received)


@pytest.mark.parametrize(
    "lines",
    [
        [("Connection", "X-Hop")],
        [("Connection", ""), ("Connection", "x-hop")],
        [("Connection", "close, X-Hop")],
        [("Connection", "X-Hop,,")],
    ],
    ids=["one", "empty-line", "with-close", "empty-items"],
)
async def test_names_in_connection_go_both_ways(lab: Lab, lines: list[tuple[str, str]]) -> None:
    """A field named in any Connection line is dropped on the way up and on the way down (GO 2 and 3, CAD, R29)."""
    got = await lab.call("GET", "/test/x", fields=[*lines, ("X-Hop", "secret")])
    assert only(got, "x-hop") == []
    down = [(n.encode(), v.encode()) for n, v in lines]
    await lab.upstream.fresh(replying(answer(200, b"ok", *down, (b"X-Hop", b"secret"), (b"X-Kept", b"1"))))
    got = await lab.call("GET", "/test/x")
    assert got.values("x-hop") == []
    assert got.values("x-kept") == [b"1"]


@pytest.mark.parametrize(
    "named", ["authorization", "host", "content-length", "cookie", "x-api-key", "transfer-encoding"]
)
async def test_connection_cannot_name_what_we_own(lab: Lab, named: str) -> None:
    """Naming our fields in Connection takes nothing away from what the upstream needs (R30)."""
    got = await lab.call("POST", "/test/x", fields=[("Connection", named)], body=b"hello")
    if got.status == 400:
        return  # refusing is right as well: nothing was sent
    assert lab.upstream.seen()[-1].values("authorization") == [f"Bearer {TOKEN}".encode()]
    assert only(got, "host") == [HOST]
    assert document(got)["body"] == "hello"


async def test_an_echoed_token_is_masked(lab: Lab) -> None:
    """A token in an answer's head or uncoded body becomes asterisks of the same number; coded bodies pass (R51)."""
    token = TOKEN.encode()
    for fields, body in (((), b"<" + token + b">"), (((b"Content-Encoding", b"gzip"),), b"<" + token + b">")):
        await lab.upstream.fresh(replying(answer(200, body, (b"X-Echo", token), *fields)))
        got = await lab.call("GET", "/test/x")
        assert got.values("x-echo") == [b"*" * len(token)]
        assert got.body == (body if fields else b"<" + b"*" * len(token) + b">")
    half = len(token) // 2
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(token) + 2)
    await lab.upstream.fresh(replying(head + b"<" + token[:half], token[half:] + b">"))
    assert (await lab.call("GET", "/test/x")).body == b"<" + b"*" * len(token) + b">"


async def test_forwarding_fields_are_stripped(lab: Lab) -> None:
    """What a caller says about where it comes from is not sent to the service (GO 4 to 6, R34)."""
    said = [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "Via",
        "X-Forwarded-Port",
    ]
    got = await lab.call("GET", "/test/x", fields=[(name, "1.2.3.4") for name in said])
    assert not {name for name, _ in fields(got)} & {name.lower() for name in said}


async def test_cookies_stay_here(lab: Lab) -> None:
    """A caller's cookies belong to the proxy's host: the service never gets them, and none are kept (R40)."""
    await lab.upstream.fresh(one_after_another(replying(answer(200, b"x", (b"Set-Cookie", b"jar=1")))))
    await lab.call("GET", "/test/x")
    await lab.upstream.fresh()
    got = await lab.call("GET", "/test/x", fields=[("Cookie", "session=1")])
    assert only(got, "cookie") == []


async def test_nothing_is_invented(lab: Lab) -> None:
    """No User-Agent, Accept, Accept-Encoding or Content-Type appears that the caller did not send (GO 13, R37)."""
    got = await lab.call("GET", "/test/x")
    assert {name for name, _ in fields(got)} <= {"host", "authorization", "connection"}
    got = await lab.call("POST", "/test/x", body=b"a", fields=[("User-Agent", "me/1")])
    assert only(got, "user-agent") == ["me/1"]
    assert only(got, "content-type") == []


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/test", "/"),
        ("/test/", "/"),
        ("/test?", "/?"),
        ("/test/a?", "/a?"),
        ("/test/a?a=1&a=2;b=3", "/a?a=1&a=2;b=3"),
        ("/test/a?a=1&a=%zz&b=3", "/a?a=1&a=%zz&b=3"),
        ("/test/a?a=%zz", "/a?a=%zz"),
        ("/test/a?x=+&y=%20&x=+", "/a?x=+&y=%20&x=+"),
        ("/test/a?q=http://b/../c", "/a?q=http://b/../c"),
        ("/test/http://b/c", "/http://b/c"),
        ("/test/a%2Fb/c%2fd", "/a%2Fb/c%2fd"),
        ("/test/a%5Cb", "/a%5Cb"),
        ("/test/a;b=c,d:e@f", "/a;b=c,d:e@f"),
        ("/test/%E2%82%AC/~x/(y)/!$&'*+", "/%E2%82%AC/~x/(y)/!$&'*+"),
        ("/test/a??b?", "/a??b?"),
        ("/test/a/", "/a/"),
    ],
)
async def test_targets_keep_their_bytes(lab: Lab, sent: str, seen: str) -> None:
    """Path and query reach the upstream byte for byte (GO 7, 33, 34, 38 to 40, NHP, R24, R26, R27)."""
    got = await lab.call("GET", sent)
    assert document(got)["target"] == seen


async def test_ten_thousand_query_pairs(lab: Lab) -> None:
    """A query of 10,001 short pairs goes through whole (GO 41, R24)."""
    query = "&".join(["a=1"] * 10_001)
    got = await lab.call("GET", f"/test/a?{query}")
    assert document(got)["target"] == f"/a?{query}"


async def test_base_path_and_query_join(authority, tmp_path) -> None:
    """A base path joins with one slash, whatever the caller's path begins with (GO 33, 34, R26)."""
    based = service_file(f"https://{HOST}", base_path='"/base%2Fx"', roots='["/base%2Fx/"]')
    async with Lab(authority, tmp_path, services={"based": based}) as one:
        for sent, seen in (
            ("/based/a", "/base%2Fx/a"),
            ("/based", "/base%2Fx"),
            ("/based/", "/base%2Fx/"),
            ("/based/c%2Fd", "/base%2Fx/c%2Fd"),
        ):
            assert document(await one.call("GET", sent))["target"].rstrip("/") == seen.rstrip("/")


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "QUERY", "PROPFIND"])
async def test_no_body_means_no_framing(lab: Lab, method: str) -> None:
    """A request without a body leaves without Transfer-Encoding and Content-Length (GO 12, 16, NHP deleteLength, R20)."""
    got = await lab.call(method, "/test/x")
    assert document(got)["method"] == method
    assert only(got, "transfer-encoding") == []
    assert only(got, "content-length") in ([], ["0"])


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PATCH", "POST", "PUT"])
async def test_any_method_may_have_a_body(lab: Lab, method: str) -> None:
    """A body arrives whole with its length under every method (R20)."""
    got = await lab.call(method, "/test/x", body=b"hello")
    assert (document(got)["body"], document(got)["framing"]) == ("hello", "length")


async def test_http_1_0_caller(lab: Lab) -> None:
    """An HTTP/1.0 request without a body is served, and its connection closed (GO 12, NHP)."""
    async with lab.calling() as caller:
        await caller.send(
            b"GET /test/x HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n" % lab.proxy.key.encode()
        )
        ending = await caller.ending()
    assert ending.how == "eof"
    assert ending.data.startswith(b"HTTP/1.")
    assert b" 200 " in ending.data[:20]
    assert b"transfer-encoding" not in ending.data.lower().split(b"\r\n\r\n")[0]


async def test_http_1_0_caller_gets_no_chunks(lab: Lab) -> None:
    """A chunked answer reaches an HTTP/1.0 caller without chunk framing (NHP, R50)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"hello") + chunk(b"")
        )

    await lab.upstream.fresh(script)
    async with lab.calling() as caller:
        await caller.send(
            b"GET /test/x HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n" % lab.proxy.key.encode()
        )
        ending = await caller.ending()
    head, _, body = ending.data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"hello"


async def test_a_mebibyte_arrives_whole(lab: Lab) -> None:
    """1 MiB goes up, by length and in chunks, without a changed byte (GO 15)."""
    data = os.urandom(2**20)
    digest = hashlib.sha256(data).hexdigest()
    assert document(await lab.call("POST", "/test/x", body=data))["sha256"] == digest
    pieces = b"".join(chunk(data[at : at + 70_001]) for at in range(0, len(data), 70_001)) + chunk(b"")
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % lab.proxy.key.encode()
        )
        await caller.send(pieces)
        assert document(await caller.answer())["sha256"] == digest


async def test_hang_up_before_an_answer_is_502(lab: Lab) -> None:
    """An upstream that closes without a word gives one 502 (GO 1 and 19, R46)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        raise Gone

    await lab.upstream.fresh(script)
    got = await lab.call("POST", "/test/x", body=b"x")
    assert (got.status, document(got)["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize("then", ["finish", "cut", "reset"])
@pytest.mark.parametrize("framed", ["length", "chunked"])
async def test_short_body_is_seen_as_short(lab: Lab, framed: str, then: str) -> None:
    """A body that breaks off upstream breaks off for the caller too, with no text of ours inside (GO 20, 24, NGX, CAD, R45)."""
    head = b"HTTP/1.1 200 OK\r\n" + (
        b"Content-Length: 100\r\n\r\n" if framed == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
    )
    part = b"a" * 50 if framed == "length" else chunk(b"a" * 50)
    await lab.upstream.fresh(replying(head + part, then=then))
    async with lab.calling() as caller:
        await caller.send(
            b"GET /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % lab.proxy.key.encode()
        )
        ending = await caller.ending()
    reading = strict.responses(ending.data, [b"GET"], closed=True)
    assert reading.dirty is None
    assert ending.closed
    if reading.messages:
        assert reading.messages[0].status == 502
    else:
        assert reading.partial is not None
        assert reading.partial.body.strip(b"a") == b""


@pytest.mark.parametrize("status", [201, 301, 302, 303, 307, 308])
async def test_redirects_pass_unfollowed(lab: Lab, status: int) -> None:
    """A redirect to elsewhere is the caller's business: passed on, never followed (NHP, R53)."""
    await lab.upstream.fresh(replying(answer(status, b"", (b"Location", b"https://elsewhere.example/x"))))
    got = await lab.call("GET", "/test/x")
    assert (got.status, got.value("location")) == (status, b"https://elsewhere.example/x")
    assert len(lab.upstream.seen()) == 1


async def test_interim_answers_are_not_the_answer(lab: Lab) -> None:
    """103 and 102 before the answer confuse nobody; an unasked 101 is an error (GO 36, 37, NGX, R49)."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    await lab.upstream.fresh(replying(early, answer(200, b"done")))
    got = await lab.call("GET", "/test/x")
    assert (got.status, got.body) == (200, b"done")
    await lab.upstream.fresh(
        replying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    )
    got = await lab.call("GET", "/test/x")
    assert (got.status, document(got)["code"]) == (502, "upstream_protocol")


@pytest.mark.parametrize("status", [204, 304])
async def test_bodiless_answers(lab: Lab, status: int) -> None:
    """204 and 304 end after the head, and the connection goes on (HAP, NGX, R50)."""
    await lab.upstream.fresh(replying(b'HTTP/1.1 %d x\r\nETag: "a"\r\n\r\n' % status))
    async with lab.calling() as caller:
        for _ in range(3):
            got = await lab.ask(caller, "GET", "/test/x")
            assert (got.status, got.value("etag"), got.body) == (status, b'"a"', b"")


async def test_head_keeps_its_length(lab: Lab) -> None:
    """HEAD tells the length that GET would have, and sends none of it (HAP, NGX, R50)."""
    await lab.upstream.fresh(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"))
    async with lab.calling() as caller:
        for _ in range(3):
            got = await lab.ask(caller, "HEAD", "/test/x")
            assert (got.status, got.value("content-length")) == (200, b"12345")


async def test_content_coding_is_opaque(lab: Lab) -> None:
    """A compressed body arrives as the bytes it was, with its length (R51)."""
    data = b"\x1f\x8b" + os.urandom(500)
    await lab.upstream.fresh(replying(answer(200, data, (b"Content-Encoding", b"gzip"))))
    got = await lab.call("GET", "/test/x", fields=[("Accept-Encoding", "gzip")])
    assert (got.body, got.value("content-length"), got.value("content-encoding")) == (data, b"502", b"gzip")


@pytest.mark.parametrize(
    "hop", ["Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Trailer", "Upgrade", "TE"]
)
async def test_answers_lose_hop_by_hop_fields(lab: Lab, hop: str) -> None:
    """Hop-by-hop fields of an answer stay here (GO 1, CAD, NGX, R28)."""
    await lab.upstream.fresh(replying(answer(200, b"x", (hop.encode(), b"a"), (b"X-Kept", b"1"))))
    got = await lab.call("GET", "/test/x")
    assert (got.values(hop), got.values("x-kept")) == ([], [b"1"])


async def test_upstreams_cannot_forge_our_marker(lab: Lab) -> None:
    """Proxy-Status in an answer always is the proxy's own word (R44)."""
    await lab.upstream.fresh(replying(answer(502, b"x", (b"Proxy-Status", b"connector-proxy; error=forged"))))
    got = await lab.call("GET", "/test/x")
    assert (got.status, got.body, got.values("proxy-status")) == (502, b"x", [])


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
async def test_trailers_never_break_framing(lab: Lab, *, announced: bool) -> None:
    """Trailers of an answer are dropped for a caller that did not ask, announced or not (GO 1, 31, NGX, R54)."""
    head = (
        b"HTTP/1.1 200 OK\r\n"
        + (b"Trailer: X-Sum\r\n" if announced else b"")
        + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    await lab.upstream.fresh(replying(head + chunk(b"hello") + b"0\r\nX-Sum: 1\r\n\r\n"))
    got = await lab.call("GET", "/test/x")
    assert (got.status, got.body) == (200, b"hello")


async def test_trailers_for_who_asks(lab: Lab) -> None:
    """A caller that says TE: trailers may get announced trailers, well-formed and after the body (GO 1, R54)."""
    head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    await lab.upstream.fresh(replying(head + chunk(b"hello") + b"0\r\nX-Sum: 1\r\nX-Sneaked: 1\r\n\r\n"))
    async with lab.calling() as caller:
        await caller.send(
            b"GET /test/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\nAuthorization: Bearer %s\r\n\r\n"
            % lab.proxy.key.encode()
        )
        ending = await caller.ending()
    body = ending.data.partition(b"\r\n\r\n")[2]
    assert body in (chunk(b"hello") + chunk(b""), chunk(b"hello") + b"0\r\nX-Sum: 1\r\n\r\n")


async def test_connections_upstream_are_reused(lab: Lab) -> None:
    """Requests one after another share an upstream connection (NGX keepalive, HAP reuse, R67)."""
    for _ in range(10):
        assert (await lab.call("GET", "/test/x")).status == 200
    assert len(lab.upstream.peers) == 1


@pytest.mark.parametrize("ending", ["close", "keep-alive-1.0"])
async def test_closing_upstreams_are_not_reused(lab: Lab, ending: str) -> None:
    """An answer that ends its connection is the last one on it (NGX, R67)."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" if ending == "close" else b"HTTP/1.0 200 OK\r\n"
    await lab.upstream.fresh(replying(head + b"Content-Length: 2\r\n\r\nok"))
    for number in range(3):
        assert (await lab.call("GET", f"/test/{number}")).body == b"ok"
    assert [len(reading.messages) for reading in lab.upstream.readings()] == [1, 1, 1]


async def test_callers_do_not_see_each_others_fields(lab: Lab) -> None:
    """200 requests at once each get their own fields and bodies back (GO 21, 22, R41)."""

    async def one(number: int) -> None:
        got = await lab.call(
            "POST", f"/test/{number}", fields=[(f"X-Only-{number}", "1")], body=str(number).encode()
        )
        seen = [name for name, _ in fields(got) if name.startswith("x-only-")]
        assert (seen, document(got)["body"], document(got)["target"]) == (
            [f"x-only-{number}"],
            str(number),
            f"/{number}",
        )

    await asyncio.gather(*(one(number) for number in range(200)))


async def test_large_heads_pass(lab: Lab) -> None:
    """An answer with 64 KiB of head and 200 fields is an ordinary answer (CAD, R52)."""
    many = [(b"X-%d" % n, b"v" * 300) for n in range(200)]
    await lab.upstream.fresh(replying(answer(200, b"ok", *many, (b"X-Big", b"v" * 8000))))
    got = await lab.call("GET", "/test/x")
    assert got.body == b"ok"
    assert sum(name.startswith(b"X-") for name, _ in got.fields) == 201


@pytest.mark.parametrize("status", [200, 299, 418, 444, 499, 520, 599])
async def test_odd_statuses_pass(lab: Lab, status: int) -> None:
    """Any status from 200 to 599 reaches the caller as it is (HAP, R43, R55)."""
    await lab.upstream.fresh(replying(answer(status, b"x", reason=b"It is (odd)")))
    assert (await lab.call("GET", "/test/x")).status == status


@pytest.mark.parametrize("status", [0, 99, 600, 999, 1000])
async def test_impossible_statuses_are_502(lab: Lab, status: int) -> None:
    """A status outside of 100 to 599 is no answer (HAP, NGX, R55)."""
    await lab.upstream.fresh(replying(b"HTTP/1.1 %03d x\r\nContent-Length: 1\r\n\r\nx" % status))
    got = await lab.call("GET", "/test/x")
    assert (got.status, document(got)["code"]) == (502, "upstream_protocol")
