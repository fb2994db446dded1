"""Restricted keys, from a caller's socket to a service's: read-only, GraphQL, observe, rates, requests at once."""

import asyncio
import json

import pytest
from support import raw, steps
from support.plane import KEY, OTHER_KEY, Scene, code, credential, scene
from support.upstream import Peer, answer

from proxy.catalog.model import Catalog, ErrorShape, ReadOnlyEntry
from proxy.catalog.patterns import PathPattern
from proxy.forwarding.permits.graphql import MOST_BYTES
from proxy.keys import Rate

QUERY = json.dumps({"query": "{ viewer { login } }"}).encode()
MUTATION = json.dumps({"query": "mutation { close }"}).encode()
JSON = (b"Content-Type", b"application/json")


def entry(methods: str, path: str, **more: object) -> ReadOnlyEntry:
    return ReadOnlyEntry(frozenset(methods.split()), PathPattern(path), "https://docs.example/", **more)  # type: ignore[arg-type]  # names of fields


LIST = (
    entry("GET HEAD", "/things/*"),
    entry("POST", "/things/search"),
    entry("POST GET", "/graphql", graphql=True, without_fields=frozenset({"secret"})),
)


def give(on: Scene, *permits: str, **more: object) -> None:
    """A key with these permits, and services with a read-only list."""
    services = {name: on.service(name, read_only=LIST, **more) for name in ("svc", "other")}
    on.put(catalog=Catalog(services), keyring=steps.ring(steps.record(*permits)))


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/svc/things/1", 200),
        ("HEAD", "/svc/things/1", 200),
        ("POST", "/svc/things/search", 200),
        ("GET", "/svc/things/1?a=b", 200),
        ("DELETE", "/svc/things/1", 403),
        ("POST", "/svc/things", 403),
        ("GET", "/svc/others/1", 403),
        ("GET", "/svc/things/a%2Fb", 403),
        ("GET", "/svc/things/1%2e%2e", 200),
        ("GET", "/svc/~api/things/1", 200),
        ("GET", "/other/things/1", 403),
    ],
)
async def test_read_only(method, target, status):
    """A read-only key reaches what its service's list holds; of anything else the service hears nothing (R90)."""
    async with scene() as on:
        give(on, "svc:read-only")
        got = await on.call(method, target, body=b"{}" if method == "POST" else None)
        assert got.status == status
        assert len(on.upstream.seen()) == (status == 200)


async def test_each_request_of_a_kept_connection_is_judged():
    """On one connection, reading after reading passes and the writing among them does not (R41, R90)."""
    async with scene() as on, on.calling() as caller:
        give(on, "svc:read-only")
        for target, status in (
            ("/svc/things/1", 200),
            ("/svc/x", 403),
            ("/svc/things/1", 200),
            ("/svc/things/1", 200),
        ):
            assert (await on.ask(caller, target)).status == status


async def test_a_method_override_does_not_write():
    """A POST that a declared override makes a DELETE is judged as DELETE, and an undeclared override is refused (R73)."""
    async with scene() as on:
        give(on, "svc:read-only", method_override=("X-HTTP-Method-Override",))
        override = ((b"X-HTTP-Method-Override", b"DELETE"),)
        assert (await on.call("POST", "/svc/things/search", body=b"{}", fields=override)).status == 403
        give(on, "svc:read-only")
        override = ((b"X-HTTP-Method-Override", b"GET"),)
        assert (await on.call("POST", "/svc/things/search", body=b"{}", fields=override)).status == 403
        assert on.upstream.seen() == []


@pytest.mark.parametrize(
    ("method", "target", "body", "fields", "reason"),
    [
        ("POST", "/svc/graphql", QUERY, (JSON,), None),
        ("POST", "/svc/graphql", MUTATION, (JSON,), "mutation"),
        ("POST", "/svc/graphql", b'{"query": "{ webhook { secret } }"}', (JSON,), "secret"),
        ("POST", "/svc/graphql?query=mutation%7Ba%7D", QUERY, (JSON,), "two readings"),
        ("POST", "/svc/graphql", QUERY, (), "Content-Type"),
        (
            "POST",
            "/svc/graphql",
            QUERY,
            ((b"Content-Type", b"application/json, text/plain"),),
            "Content-Type",
        ),
        ("POST", "/svc/graphql", QUERY, (JSON, (b"Content-Encoding", b"gzip")), "Content-Type"),
        ("POST", "/svc/graphql", QUERY + b" " * MOST_BYTES, (JSON,), "bytes"),
        ("GET", "/svc/graphql?query=%7Ba%7D", None, (), None),
        ("GET", "/svc/graphql?query=mutation%7Ba%7D", None, (), "mutation"),
        ("GET", "/svc/graphql", None, (), "query="),
    ],
)
async def test_graphql(method, target, body, fields, reason):
    """GraphQL passes byte for byte when it only queries; otherwise the caller is told why, and the service hears nothing (R90)."""
    async with scene() as on:
        give(on, "svc:read-only")
        got = await on.call(method, target, body=body, fields=fields)
        if reason is None:
            assert got.status == 200
            assert [message.body for message in on.upstream.seen()] == [body or b""]
        else:
            assert (got.status, code(got)) == (403, "not_permitted")
            assert reason in json.loads(got.body)["detail"]
            assert on.upstream.seen() == []


async def test_graphql_in_pieces_is_not_judged():
    """A body whose length nobody told is refused before any of it is read (R90)."""
    async with scene() as on, on.calling() as caller:
        give(on, "svc:read-only")
        head = raw.request("POST", "/svc/graphql", key=KEY, fields=(JSON, (b"Transfer-Encoding", b"chunked")))
        await caller.send(head)
        got = await caller.answer()
        assert (got.status, code(got)) == (403, "not_permitted")
        assert on.upstream.seen() == []


async def test_graphql_is_sent_again_with_a_newer_token():
    """What was read to be judged is at hand for the replay after a refused token (R63)."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            good = request.value("authorization") == b"Bearer token-two"
            await peer.send(answer(200 if good else 401, b"{}"))

    async with scene(script) as on:
        give(on, "svc:read-only")
        on.source.newer = credential("token-two")
        got = await on.call("POST", "/svc/graphql", body=QUERY, fields=(JSON,))
        assert got.status == 200
        assert [message.body for message in on.upstream.seen()] == [QUERY, QUERY]


async def test_nobody_is_asked_for_an_account_before_the_permit():
    """A refused call asks no source for a credential, and one that needs the connection's name asks once (R90)."""
    async with scene() as on:
        on.source.at_hand.clear()
        on.source.later[None] = credential("token-one", "main")
        give(on, "svc@main:read-only")
        assert (await on.call("DELETE", "/svc/things/1")).status == 403
        assert (await on.call("GET", "/svc/things/1")).status == 200
        give(on, "svc@elsewhere:read-only")
        assert (await on.call("GET", "/svc/things/1")).status == 403


@pytest.mark.parametrize(
    ("target", "observed"),
    [
        ("/svc/things/1", None),
        ("/svc/others", "not_permitted"),
        ("/svc/graphql?query=mutation%7Ba%7D", "not_permitted"),
    ],
)
async def test_observe(target, observed):
    """An observing permit lets the call pass; the log says with what code it would have refused it, and a metric counts it."""
    async with scene() as on:
        give(on, "svc:observe,read-only")
        assert (await on.call("GET", target)).status == 200
        (line,) = await on.logged()
        assert line.get("observed") == observed
        key_id, shape = KEY[4:12], target.partition("?")[0].replace("1", "*")
        counted = {(key_id, "svc", "GET", shape): 1} if observed else {}
        assert on.metrics.observed_refusals() == counted


async def test_observing_opens_no_credential_path():
    """What is closed to every key stays closed to one that is observed (R90)."""
    async with scene() as on:
        give(on, "svc:observe")
        got = await on.call("GET", "/svc/oauth/token")
        assert (got.status, code(got)) == (403, "credential_path")


async def test_observing_a_large_upload():
    """An observed body that is too large to be judged streams on as it would without (R60)."""
    async with scene() as on:
        give(on, "svc:observe,read-only")
        large = QUERY + b" " * (2 * MOST_BYTES)
        assert (await on.call("POST", "/svc/graphql", body=large, fields=(JSON,))).status == 200
        assert on.upstream.seen()[0].body == large
        (line,) = await on.logged()
        assert line["observed"] == "not_permitted"


async def test_a_rate():
    """After the last request of its rate a key gets 429 with Retry-After, and the service hears nothing; other keys go on (R64)."""
    async with scene() as on, on.calling() as caller:
        on.keys(steps.record("*", rate=Rate(2, 3600)), steps.record("*", key=steps.OTHER_KEY))
        for status in (200, 200, 429, 429):
            got = await on.ask(caller)
            assert got.status == status
        assert code(got) == "rate_limited"
        assert 1 <= int(got.value("retry-after") or 0) <= 1800
        assert (await on.ask(caller, key=OTHER_KEY)).status == 200
        assert len(on.upstream.seen()) == 3


async def test_a_rate_in_the_words_of_a_service():
    """A service whose errors are answers with status 200 tells of the limit in its own words, with 429: clients wait by it (R64)."""
    async with scene() as on:
        shape = ErrorShape('{"ok":false,"error":"{code}"}', status=200)
        on.put(catalog=Catalog({"svc": on.service("svc", errors=shape)}))
        on.keys(steps.record("*", rate=Rate(1, 3600)))
        assert (await on.call()).status == 200
        got = await on.call()
        assert (got.status, json.loads(got.body)) == (429, {"ok": False, "error": "rate_limited"})
        assert got.value("retry-after") is not None


async def test_requests_at_once():
    """While its one place is taken, a key gets 429; when that request ends, however it does, the place is free (R64)."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            arrived.set()
            await go_on.wait()
            await peer.send(answer(200, b"done"))

    async with scene(script) as on:
        on.keys(steps.record("*", concurrency=1))
        async with on.calling() as leaving:
            await leaving.send(raw.request("GET", "/svc/x", key=KEY))
            await arrived.wait()
            got = await on.call()
            assert (got.status, code(got)) == (429, "rate_limited")
            go_on.set()
            assert (await leaving.answer()).status == 200
        arrived.clear()
        go_on.clear()
        async with on.calling() as leaving:
            await leaving.send(raw.request("GET", "/svc/x", key=KEY))
            await arrived.wait()
        go_on.set()
        await on.logged(3)
        assert (await on.call()).status == 200


async def test_a_limit_that_is_taken_away():
    """A key whose limit is taken away goes on at once, on the same connection (R89)."""
    async with scene() as on, on.calling() as caller:
        on.keys(steps.record("*", rate=Rate(1, 3600)))
        assert [(await on.ask(caller)).status for _ in range(2)] == [200, 429]
        on.keys(steps.record("*"))
        assert [(await on.ask(caller)).status for _ in range(2)] == [200, 200]


async def test_a_websocket_is_no_reading():
    """What goes over a WebSocket cannot be judged: a read-only key opens none (R66, R90)."""
    async with scene() as on, on.calling() as caller:
        give(on, "svc:read-only")
        fields = (
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        )
        await caller.send(raw.request("GET", "/svc/things/1", key=KEY, fields=fields))
        got = await caller.answer()
        assert (got.status, code(got)) == (403, "not_permitted")
        assert on.upstream.seen() == []
