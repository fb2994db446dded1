"""Traces of requests: what a collector receives for each, and what services see of them."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from support.otlp import Received, Receiver
from support.plane import KEY, Scene, credential, scene
from support.upstream import Peer, Script, answer

from proxy import log, tracing
from proxy.errors import ConfigurationError
from proxy.forwarding.headers import TRACE_CONTEXT
from proxy.forwarding.limits import DataPlaneOptions
from proxy.settings import load_settings
from proxy.tracing import spans

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("Traceparent", f"00-{TRACE}-{PARENT}-01")
STATE = ("tracestate", "vendor=value")
OK = answer(200, b"fine")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """Where spans go."""
    with Receiver() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield one


@contextlib.asynccontextmanager
async def traced(
    script: Script | None = None, *, continued: bool = False
) -> AsyncIterator[tuple[Scene, spans.Spans]]:
    """A running plane whose requests are traced; all spans are sent at the end of the block."""
    tracing = spans.opened(continued=continued)
    assert tracing is not None
    options = DataPlaneOptions(withheld=TRACE_CONTEXT if continued else frozenset())
    try:
        async with scene(script, options=options, tracing=tracing) as on:
            yield on, tracing
    finally:
        await tracing.close()


def of_kind(found: list[Received], kind: str) -> list[Received]:
    return [one for one in found if one.kind == kind]


async def test_one_request_in_spans(receiver: Receiver) -> None:
    """A request is a SERVER span under the caller's, with a CLIENT span that holds the connecting; no query, no key, no token."""
    before = time.time() - 0.001  # a float of nanoseconds is a little off
    async with traced() as (on, _):
        got = await on.call(
            "POST", "/svc/a/b?secret=query", body=b"four", fields=[SAMPLED, STATE, ("User-Agent", "shy")]
        )
        assert got.status == 200
        (event,) = await on.logged()
    (server,), (client,) = of_kind(receiver.spans, "SERVER"), of_kind(receiver.spans, "CLIENT")
    (connect,) = of_kind(receiver.spans, "INTERNAL")
    assert (server.trace, server.parent, server.state) == (TRACE, PARENT, "vendor=value")
    assert (client.trace, client.parent) == (TRACE, server.id)
    assert (connect.name, connect.parent) == ("connect", client.id)
    assert server.name == "POST /svc/{path}"
    assert not server.failed
    assert server.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/svc/a/b",
        "http.route": "/svc/{path}",
        "http.response.status_code": 200,
        "http.request.body.size": 4,
        "http.response.body.size": len(got.body),
        "network.protocol.version": "1.1",
        "server.address": "proxy.example",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "connector_proxy.request_id": event["request_id"],
        "connector_proxy.service": "svc",
        "connector_proxy.connection": "main",
        "connector_proxy.key_id": event["key_id"],
        "connector_proxy.outcome": "answered",
    }
    assert client.attributes == {
        "http.request.method": "POST",
        "url.full": f"http://127.0.0.1:{on.upstream.port}/a/b",
        "server.address": "127.0.0.1",
        "server.port": on.upstream.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": on.upstream.port,
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
    }
    assert client.events == ["first_byte"]
    assert server.start <= client.start <= connect.start <= connect.end <= client.end <= server.end
    assert before * 1e9 <= server.start
    assert server.end <= time.time() * 1e9
    assert server.resource["service.name"] == "connector-proxy"
    for secret in (b"query", KEY.encode(), b"token-one", b"shy"):
        assert secret not in receiver.raw


async def test_requests_of_the_short_way_are_traced_alike(receiver: Receiver) -> None:
    """Requests on kept connections have the same spans, each its own parent, and need no connecting."""
    other = f"00-{'c' * 32}-{'d' * 16}-01"
    async with traced() as (on, _), on.calling() as caller:
        for parent in (SAMPLED[1], SAMPLED[1], other):
            assert (await on.ask(caller, fields=[("traceparent", parent)])).status == 200
        await on.logged(3)
    servers = of_kind(receiver.spans, "SERVER")
    assert [(one.trace, one.parent) for one in servers] == [(TRACE, PARENT)] * 2 + [("c" * 32, "d" * 16)]
    assert [one.parent for one in of_kind(receiver.spans, "CLIENT")] == [one.id for one in servers]
    assert len(of_kind(receiver.spans, "INTERNAL")) == 1


async def test_a_refused_token_is_two_tries(receiver: Receiver) -> None:
    """A request that goes out again with a newer token has a CLIENT span for each try, and the wait between them (R63)."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            refused = request.value("authorization") == b"Bearer token-one"
            await peer.send(answer(401, b"who?") if refused else OK)

    async with traced(script) as (on, _):
        on.source.newer = credential("token-two")
        assert (await on.call()).status == 200
    first, second = of_kind(receiver.spans, "CLIENT")
    assert (first.failed, first.attributes["error.type"]) == (True, "token_refused")
    assert "http.request.resend_count" not in first.attributes
    assert (second.failed, second.attributes["http.request.resend_count"]) == (False, 1)
    (wait,) = [one for one in receiver.spans if one.name == "wait for a newer token"]
    (server,) = of_kind(receiver.spans, "SERVER")
    assert wait.parent == server.id
    assert first.start <= wait.start <= wait.end <= second.start


async def test_waiting_for_a_token_is_seen(receiver: Receiver) -> None:
    """A request whose account's token is not at hand shows the wait for it, before it goes out."""
    async with traced() as (on, _):
        on.source.later[None] = on.source.at_hand.pop(None)
        assert (await on.call()).status == 200
    (wait,) = [one for one in receiver.spans if one.name == "wait for a token"]
    (server,), (client,) = of_kind(receiver.spans, "SERVER"), of_kind(receiver.spans, "CLIENT")
    assert wait.parent == server.id
    assert wait.end <= client.start


async def test_what_fails_is_an_error(receiver: Receiver) -> None:
    """A service that cannot be reached fails both spans; what the caller did wrong fails none; health is not traced."""
    async with traced() as (on, _):
        await on.upstream.stop()
        assert (await on.call()).status == 502
        assert (await on.call(target="/nowhere/x")).status == 404
        assert (await on.call(target="/-/health", key=None)).status == 200
        assert (await on.call("REPORT", "/svc/x", key="cpk_wrong")).status == 401
    lost, unknown, brewed = of_kind(receiver.spans, "SERVER")
    (client,) = of_kind(receiver.spans, "CLIENT")
    assert (lost.failed, lost.attributes["error.type"]) == (True, "upstream_unreachable")
    assert (client.failed, client.attributes["error.type"]) == (True, "upstream_unreachable")
    assert "network.peer.address" not in client.attributes
    assert (unknown.name, unknown.failed) == ("GET", False)
    assert unknown.attributes["connector_proxy.error"] == "unknown_service"
    assert (brewed.name, brewed.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert brewed.attributes["http.request.method_original"] == "REPORT"


@pytest.mark.parametrize("on", [False, True])
async def test_services_get_what_the_caller_sent(receiver: Receiver, *, on: bool) -> None:
    """With tracing off, and on as it comes, both fields reach the service unchanged, and none is made up."""
    async with contextlib.AsyncExitStack() as stack:
        where = (
            (await stack.enter_async_context(traced()))[0] if on else await stack.enter_async_context(scene())
        )
        await where.call(fields=[SAMPLED, STATE])
        await where.call()
        first, second = where.upstream.seen()
    assert (b"Traceparent", SAMPLED[1].encode()) in first.fields
    assert first.value("tracestate") == b"vendor=value"
    assert second.value("traceparent") is second.value("tracestate") is None


async def test_services_can_be_told_nothing() -> None:
    """Removed: neither field reaches the service, with tracing off too; the others do."""
    options = DataPlaneOptions(withheld=TRACE_CONTEXT)
    async with scene(options=options) as on, on.calling() as caller:
        for _ in range(2):
            assert (await on.ask(caller, fields=[SAMPLED, STATE, ("X-Other", "stays")])).status == 200
        for seen in on.upstream.seen():
            assert seen.value("traceparent") is seen.value("tracestate") is None
            assert seen.value("x-other") == b"stays"


async def test_services_can_go_on_with_our_span(receiver: Receiver) -> None:
    """Continued: a service's parent is the CLIENT span of that very try, in the caller's trace or a new one, with its state and flags."""
    async with traced(continued=True) as (on, _):
        async with on.calling() as caller:
            for fields in ([SAMPLED, STATE], [SAMPLED, STATE], [], [("traceparent", SAMPLED[1][:-1] + "0")]):
                assert (await on.ask(caller, fields=fields)).status == 200
            await on.logged(4)
        seen = on.upstream.seen()
    sent = [one.value("traceparent").decode().split("-") for one in seen]
    assert all(len([f for f in one.fields if f[0].lower() == b"traceparent"]) == 1 for one in seen)
    assert [one.value("tracestate") for one in seen] == [b"vendor=value"] * 2 + [None] * 2
    clients = of_kind(receiver.spans, "CLIENT")
    assert [tuple(one[1:3]) for one in sent[:3]] == [(one.trace, one.id) for one in clients]
    assert [one[1] for one in sent[:2]] == [TRACE, TRACE]
    assert sent[2][1] != TRACE
    assert (sent[3][1], sent[3][3]) == (TRACE, "00")
    assert sent[3][2] != PARENT


@pytest.mark.parametrize(
    "fields",
    [
        [("traceparent", f"00-{TRACE.upper()}-{PARENT}-01"), STATE],
        [("traceparent", f"ff-{TRACE}-{PARENT}-01"), STATE],
        [("traceparent", f"00-{'0' * 32}-{PARENT}-01"), STATE],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01"), STATE],
        [("traceparent", f"00-{TRACE}-{PARENT}-01-more"), STATE],
        [SAMPLED, ("traceparent", f"00-{'c' * 32}-{'d' * 16}-01"), STATE],
        [("traceparent", "x" * 4096), STATE],
        [("traceparent", "\xff"), STATE],
    ],
)
async def test_a_malformed_parent_is_none(receiver: Receiver, fields: list[tuple[str, str]]) -> None:
    """A traceparent that W3C Trace Context calls invalid begins a trace of its own, without the state that came along."""
    async with traced(continued=True) as (on, _):
        assert (
            await on.call(fields=[(name, value.encode("latin-1")) for name, value in fields])
        ).status == 200
        (seen,) = on.upstream.seen()
    (server,) = of_kind(receiver.spans, "SERVER")
    assert (server.parent, server.state) == ("", "")
    assert server.trace != TRACE
    assert server.trace in seen.value("traceparent").decode()
    assert seen.value("tracestate") is None


async def test_sampling_is_the_operators(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER counts: what it does not take is not sent, whatever the caller's flag says."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with traced() as (on, _):
        assert (await on.call(fields=[SAMPLED])).status == 200
    assert receiver.spans == []


async def test_a_collector_that_does_not_answer_costs_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans beyond the queue are dropped, requests go on, and the end waits a bounded time."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    monkeypatch.setattr(spans, "CLOSE_S", 0.2)
    receiver.gate.clear()
    log.configure("json", "info")
    async with asyncio.timeout(30):
        async with traced() as (on, _), on.calling() as caller:
            for _ in range(20):
                assert (await on.ask(caller)).status == 200
    assert receiver.spans == []


def test_disabled_by_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED turns traces off although the settings turn them on, and no thread is started."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert spans.opened(continued=True) is None


@pytest.mark.parametrize("missing", ["opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Traces that are turned on without the extra refuse the start, and say what to install."""
    there = tracing.find_spec

    def look(name: str) -> object:
        if name == missing:
            raise ModuleNotFoundError(name)
        return there(name)

    settings = load_settings(None, {"CONNECTOR_PROXY_TRACING__ENABLED": "true", "HOME": "/nowhere"})
    tracing.check(settings)
    monkeypatch.setattr(tracing, "find_spec", look)
    with pytest.raises(ConfigurationError, match=r"tracing\.enabled.*pip install 'connector-proxy\[otel\]'"):
        tracing.tracing_of(settings)


def test_nothing_is_loaded_while_it_is_off() -> None:
    """Without tracing the program imports nothing of OpenTelemetry."""
    look = "import sys, proxy.app; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run(
        [sys.executable, "-c", look], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_what_cannot_be_continued_is_refused() -> None:
    """Services cannot be given our span while there is none."""
    with pytest.raises(ConfigurationError, match="TO_SERVICES"):
        load_settings(None, {"CONNECTOR_PROXY_TRACING__TO_SERVICES": "continued", "HOME": "/nowhere"})
