"""Framing rules and traps of the platform, each by name, over real sockets."""

import asyncio

import pytest
from support import raw, strict
from support.lab import Lab
from support.raw import Hang, document
from support.upstream import Gone, Peer, answer, replying


def auth(lab: Lab) -> bytes:
    return b"Host: a\r\nAuthorization: Bearer %s\r\n" % lab.proxy.key.encode()


async def said(lab: Lab, data: bytes, *, methods: int = 1) -> tuple[list[int], str]:
    """Statuses that a connection with these bytes gets, and how it ends (open: it goes on)."""
    async with lab.calling() as caller:
        await caller.send(data)
        ending = await caller.ending(0.7)
    reading = strict.responses(ending.data, [b"GET"] * methods, closed=ending.closed)
    assert reading.dirty is None, reading.dirty
    return [message.status for message in reading.messages], ending.how


@pytest.mark.parametrize("target", [b"/test/x", b"/"])
async def test_http_0_9_is_no_request(lab: Lab, target: bytes) -> None:
    """HTTP/0.9, which the parser under us takes, is refused (trap 1, R11)."""
    statuses, how = await said(lab, b"GET %s\r\n\r\n" % target)
    assert statuses in ([400], [])
    assert how != "open"
    assert not lab.upstream.peers


@pytest.mark.parametrize("version", [b"RTSP/1.0", b"ICE/1.0", b"HTTP/2.0", b"HTTP/1.2"])
async def test_other_protocols_are_refused(lab: Lab, version: bytes) -> None:
    """RTSP and ICE, which the parser under us takes, and other versions never reach the upstream (trap 1, R11)."""
    statuses, how = await said(lab, b"OPTIONS /test/x %s\r\n%s\r\n" % (version, auth(lab)))
    assert statuses == [400]
    assert how != "open"
    assert not lab.upstream.peers


@pytest.mark.parametrize(
    "coding",
    [b",chunked", b"chunked,", b"chunked, chunked", b"gzip, chunked", b"identity", b'"chunked"', b"xchunked"],
)
async def test_transfer_coding_is_exactly_chunked(lab: Lab, coding: bytes) -> None:
    """``,chunked`` and its like are not chunked (trap 1, R3)."""
    statuses, how = await said(
        lab, b"POST /test/x HTTP/1.1\r\n%sTransfer-Encoding: %s\r\n\r\n0\r\n\r\n" % (auth(lab), coding)
    )
    assert statuses in ([400], [501])
    assert how != "open"
    assert not lab.upstream.peers


async def test_leading_zeros_do_not_leave(lab: Lab) -> None:
    """``Content-Length: 010`` is refused, or sent on in canonical form (trap 1, R4)."""
    statuses, _ = await said(
        lab, b"POST /test/x HTTP/1.1\r\n%sContent-Length: 010\r\n\r\n0123456789" % auth(lab)
    )
    assert statuses in ([400], [200])
    if statuses == [200]:
        assert lab.upstream.seen()[0].value("content-length") == b"10"
    assert not lab.upstream.dirt()


@pytest.mark.parametrize("order", ["cl-te", "te-cl"])
async def test_both_framings(lab: Lab, order: str) -> None:
    """Content-Length beside Transfer-Encoding is refused and the connection ended (R2)."""
    lines = [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"]
    lines = lines if order == "cl-te" else lines[::-1]
    statuses, how = await said(
        lab,
        b"POST /test/x HTTP/1.1\r\n"
        + auth(lab)
        + b"".join(lines)
        + b"\r\n0\r\n\r\nGET /test/SMUG HTTP/1.1\r\n"
        + auth(lab)
        + b"\r\n",
    )
    assert statuses == [400]
    assert how != "open"
    assert not lab.upstream.peers


async def test_transfer_coding_in_http_1_0(lab: Lab) -> None:
    """HTTP/1.0 has no Transfer-Encoding (R5)."""
    statuses, how = await said(
        lab, b"POST /test/x HTTP/1.0\r\n%sTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % auth(lab)
    )
    assert statuses == [400]
    assert how != "open"


@pytest.mark.parametrize("value", [b"\x85admin\xa0", b"caf\xe9", b"\xff", b"\xe2\x82\xac", b"a\xadb"])
async def test_bytes_over_127_are_kept_or_refused(lab: Lab, value: bytes) -> None:
    """A header value with bytes over 127 arrives byte for byte, or not at all; never changed (trap 2, R14)."""
    async with lab.calling() as caller:
        await caller.send(b"GET /test/x HTTP/1.1\r\n%sX-Value: %s\r\n\r\n" % (auth(lab), value))
        got = await caller.answer()
    assert got.status in {200, 400}
    if got.status == 200:
        assert lab.upstream.seen()[0].values("x-value") == [value]


@pytest.mark.parametrize("target", [b"/test/\xff", b"/test/\x80?a", b"/test/x?\xe2\x82\xac", b"/test/\x7f"])
async def test_targets_are_printable_ascii(lab: Lab, target: bytes) -> None:
    """Other bytes in a target are refused, not re-encoded (R13)."""
    statuses, _ = await said(lab, b"GET %s HTTP/1.1\r\n%s\r\n" % (target, auth(lab)))
    assert statuses == [400]
    assert not lab.upstream.peers


@pytest.mark.parametrize(
    "line",
    [b"GET http://up.example/x HTTP/1.1", b"GET https://a@b/test HTTP/1.1", b"CONNECT up.example:443 HTTP/1.1", b"TRACE /test/x HTTP/1.1", b"GET admin HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS */x HTTP/1.1", b"GET up.example:443 HTTP/1.1"],
)  # fmt: skip
async def test_only_origin_form(lab: Lab, line: bytes) -> None:
    """Absolute form, authority form, CONNECT and TRACE never make a proxy to that host (GO 43, HAP, R12)."""
    statuses, _ = await said(lab, line + b"\r\n" + auth(lab) + b"\r\n")
    assert statuses in ([400], [405])
    assert not lab.upstream.peers


async def test_options_asterisk_is_ours(lab: Lab) -> None:
    """``OPTIONS *`` is about the proxy, and answered by it (R12)."""
    statuses, _ = await said(lab, b"OPTIONS * HTTP/1.1\r\n" + auth(lab) + b"\r\n")
    assert statuses[0] in {200, 204}
    assert not lab.upstream.peers


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: a@b\r\n",
        b"Host: a\r\nhOST: b\r\n",
        b"Host: [::1\r\n",
    ],
)
async def test_one_valid_host(lab: Lab, lines: bytes) -> None:
    """HTTP/1.1 needs exactly one valid Host (H1S, NGX, R10)."""
    statuses, _ = await said(
        lab, b"GET /test/x HTTP/1.1\r\n%sAuthorization: Bearer %s\r\n\r\n" % (lines, lab.proxy.key.encode())
    )
    assert statuses == [400]
    assert not lab.upstream.peers


async def test_pipelined_requests_are_answered_in_order(lab: Lab) -> None:
    """Ten requests in one segment get ten answers in their order (R17)."""
    async with lab.calling() as caller:
        await caller.send(
            b"".join(raw.request("POST", f"/test/{n}", key=lab.proxy.key, body=b"%d" % n) for n in range(10))
        )
        for number in range(10):
            assert document(await caller.answer())["body"] == str(number)


async def test_nothing_behind_a_refused_request_runs(lab: Lab) -> None:
    """After a refused request the bytes behind it are not a request (R17, R18)."""
    good = raw.request("GET", "/test/ok", key=lab.proxy.key)
    bad = b"GET /test/x HTTP/1.1\r\n" + auth(lab) + b"X : 1\r\n\r\n"
    statuses, how = await said(
        lab, good + bad + raw.request("GET", "/test/SMUG", key=lab.proxy.key), methods=3
    )
    assert statuses in ([200, 400], [400])
    assert how != "open"
    assert all(b"SMUG" not in message.target for message in lab.upstream.seen())


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_nothing_behind_close_runs(lab: Lab, version: bytes) -> None:
    """After ``Connection: close`` or an HTTP/1.0 request the connection is over (R18)."""
    option = b"Connection: close\r\n" if version == b"1.1" else b""
    data = b"GET /test/one HTTP/" + version + b"\r\n" + auth(lab) + option + b"\r\n"
    statuses, how = await said(lab, data + raw.request("GET", "/test/SMUG", key=lab.proxy.key))
    assert statuses == [200]
    assert how != "open"
    assert [m.target for m in lab.upstream.seen()] == [b"/one"]


@pytest.mark.parametrize("method", [b"get", b"Get", b"PROPFIND", b"MKCOL", b"X-ODD"])
async def test_methods_are_never_mapped(lab: Lab, method: bytes) -> None:
    """A method reaches the upstream as it was sent, or not at all (R19)."""
    statuses, _ = await said(lab, method + b" /test/x HTTP/1.1\r\n" + auth(lab) + b"\r\n")
    assert statuses in ([200], [400], [405])
    assert [m.method for m in lab.upstream.seen()] in ([], [method])


async def test_not_a_method(lab: Lab) -> None:
    """``G=":<>(e)"`` is no method (R19)."""
    statuses, _ = await said(lab, b'G=":<>(e)" /test/x HTTP/1.1\r\n' + auth(lab) + b"\r\n")
    assert statuses in ([400], [])
    assert not lab.upstream.peers


async def test_continue_only_after_authentication(lab: Lab) -> None:
    """No 100 before the key is known to be good (trap 6, NGX, R21)."""
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        first = await caller.until(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in bytes(caller.received)


async def test_continue_then_answer(lab: Lab) -> None:
    """With a good key the 100 comes before the body, then the answer (NGX, R21)."""
    async with lab.calling() as caller:
        await caller.send(
            raw.request(
                "POST",
                "/test/x",
                key=lab.proxy.key,
                fields=[("Expect", "100-continue"), ("Content-Length", "5")],
            )
        )
        assert (await caller.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await caller.send(b"hello")
        assert document(await caller.answer())["body"] == "hello"


async def test_no_continue_when_the_body_is_here(lab: Lab) -> None:
    """A body that came with the head gets its answer; one 100 at most stands before it (RFC 9110 section 10.1.1, R21)."""
    async with lab.calling() as caller:
        await caller.send(
            raw.request(
                "POST", "/test/x", key=lab.proxy.key, fields=[("Expect", "100-continue")], body=b"hello"
            )
        )
        assert document(await caller.answer())["body"] == "hello"
    assert bytes(caller.received).count(b"HTTP/1.1 100") <= 1


@pytest.mark.parametrize("value", ["200-ok", "100-continue-x", "x"])
async def test_other_expectations(lab: Lab, value: str) -> None:
    """What cannot be met is 417 (NGX, R21)."""
    got = await lab.call("POST", "/test/x", fields=[("Expect", value)], body=b"")
    assert (got.status, document(got)["code"]) == (417, "expectation_failed")


async def test_no_continue_to_http_1_0(lab: Lab) -> None:
    """HTTP/1.0 knows no 100 (R21)."""
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/x HTTP/1.0\r\n"
            + auth(lab)
            + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
        )
        ending = await caller.ending()
    assert b" 100 " not in ending.data.split(b"\r\n")[0]
    assert b" 200 " in ending.data.split(b"\r\n")[0]


async def test_chunk_extensions_and_trailers_stay_here(lab: Lab) -> None:
    """What a caller hides in chunk extensions and trailers does not leave (R7)."""
    body = b"5;a=b\r\nhello\r\n0;c=d\r\nX-Trailer: 1\r\nContent-Length: 3\r\n\r\n"
    statuses, _ = await said(
        lab, b"POST /test/x HTTP/1.1\r\n" + auth(lab) + b"Transfer-Encoding: chunked\r\n\r\n" + body
    )
    assert statuses in ([200], [400], [])
    assert not lab.upstream.dirt()
    assert all(b"X-Trailer" not in bytes(peer.received) for peer in lab.upstream.peers)


@pytest.mark.parametrize(
    "trailer",
    [b"X-Injected: 1", b"X-A: 1\r\nX-Injected: 1", b"X-Injected: 1\r\nX-B: 2"],
    ids=["only", "last", "first"],
)
async def test_trailers_do_not_reach_the_next_request(lab: Lab, trailer: bytes) -> None:
    """A trailer field of one request is never a header field of the next on that connection (R7)."""
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/1 HTTP/1.1\r\n"
            + auth(lab)
            + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
            + trailer
            + b"\r\n\r\n"
        )
        first = await caller.answer()
        assert first.status in {200, 400}
        await caller.send(raw.request("GET", "/test/2", key=lab.proxy.key))
        try:
            assert (await caller.answer()).status == 200
        except strict.Incomplete:  # closing the connection is right too
            assert b"HTTP/1.1" not in bytes(caller.received[caller._at :])
    assert all(b"X-" not in bytes(peer.received) for peer in lab.upstream.peers)


@pytest.mark.parametrize("size", [b"+5", b"0x5", b"5_", b" 5", b"fffffffffffffffff", b"-1", b"g", b"5;\x00"])
async def test_bad_chunk_ends_the_upstream_connection(lab: Lab, size: bytes) -> None:
    """A bad chunk size is an error, and the half-sent request's connection is not used again (R6)."""
    async with lab.calling() as caller:
        await caller.send(
            b"POST /test/half HTTP/1.1\r\n" + auth(lab) + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        peer = await asyncio.wait_for(lab.upstream.peer(), 20)
        await caller.send(size + b"\r\nhello\r\n0\r\n\r\n")
        ending = await caller.ending()
        assert ending.closed
    await asyncio.wait_for(peer.ended.wait(), 20)
    assert (await lab.call("GET", "/test/next")).status == 200
    assert [m.target for m in lab.upstream.seen()] == [b"/next"]
    assert not lab.upstream.dirt()


@pytest.mark.parametrize(
    "name", ["X_Under", "X.Dot", "Authori_zation", "Content_Length", "Transfer.Encoding"]
)
async def test_names_that_fold_to_others(lab: Lab, name: str) -> None:
    """Names with underscores or dots are dropped or refused, so that nobody takes them for others (R31, R32)."""
    got = await lab.call("GET", "/test/x", fields=[(name, "1")])
    assert got.status in {200, 400}
    if got.status == 200:
        assert name.lower() not in {n.lower() for n, _ in document(got)["fields"]}


@pytest.mark.parametrize("what", ["target", "field", "fields", "count"])
async def test_large_heads_are_refused(lab: Lab, what: str) -> None:
    """Over the limits: 414 or 431, and the upstream hears nothing (ENV, R22)."""
    head = {
        "target": b"GET /test/" + b"a" * 70_000 + b" HTTP/1.1\r\n" + auth(lab),
        "field": b"GET /test/x HTTP/1.1\r\n" + auth(lab) + b"X: " + b"a" * 140_000 + b"\r\n",
        "fields": b"GET /test/x HTTP/1.1\r\n"
        + auth(lab)
        + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(150)),
        "count": b"GET /test/x HTTP/1.1\r\n" + auth(lab) + b"X: 1\r\n" * 300,
    }[what]
    statuses, how = await said(lab, head + b"\r\n")
    assert statuses == ([414] if what == "target" else [431])
    assert how != "open"
    assert not lab.upstream.peers


async def test_answer_head_and_error_are_never_mixed(lab: Lab) -> None:
    """When an answer breaks after it began, the caller sees the cut and no second answer (trap 10, R45)."""
    await lab.upstream.fresh(
        replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n")
    )
    async with lab.calling() as caller:
        await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
        ending = await caller.ending()
    assert ending.data.count(b"HTTP/1.1 ") == 1
    assert b"502" not in ending.data.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "field",
    [b"Content-Length : 2", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 2\r\nContent-Length: 3"],
)
async def test_lax_answers_are_refused(lab: Lab, field: bytes) -> None:
    """Answers that the usual parser lets through are 502 (trap 7, R47)."""
    await lab.upstream.fresh(replying(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\nok", then="finish"))
    got = await lab.call("GET", "/test/x")
    assert (got.status, document(got)["code"]) == (502, "upstream_protocol")


async def test_errors_do_not_echo(lab: Lab) -> None:
    """Neither the answer to a bad request nor the log holds its bytes (R143, R156)."""
    mark = b"canary-4711"
    async with lab.calling() as caller:
        await caller.send(b"GET /test/x HTTP/1.1\r\n" + auth(lab) + b"X\x00" + mark + b": 1\r\n\r\n")
        ending = await caller.ending()
    assert b" 400 " in ending.data[:20]
    assert mark not in ending.data
    assert mark.decode() not in lab.proxy.log


async def test_upstream_bytes_after_the_answer(lab: Lab) -> None:
    """Bytes behind an answer are never the next one (NGX proxy_extra_data, R48)."""
    poisoned = answer(200, b"good") + answer(200, b"POISON")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(poisoned if len(lab.upstream.peers) == 1 else answer(200, b"clean"))
        await peer.request()
        raise Gone

    await lab.upstream.fresh(script)
    assert (await lab.call("GET", "/test/1")).body == b"good"
    assert (await lab.call("GET", "/test/2")).body == b"clean"


async def test_half_closed_caller_is_answered_or_ended(lab: Lab) -> None:
    """A caller that half-closes after its request does not leave a hanging connection (GO 29)."""
    async with lab.calling() as caller:
        await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
        caller.half_close()
        try:
            ending = await caller.ending()
        except Hang:
            pytest.fail("hangs")
    assert ending.closed
    assert strict.responses(ending.data, [b"GET"], closed=True).dirty is None
