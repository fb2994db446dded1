"""Services reached through the operator's HTTP proxy: what it is asked, what is still verified, what is refused."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from support.certificates import Authority
from support.connect_proxy import ConnectProxy
from support.upstream import Upstream, answer, replying

from proxy.catalog.origin import Origin
from proxy.errors import AddressRefused, UpstreamTimeout, UpstreamTls, UpstreamUnreachable
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.forwarding.tunnel import MAX_HEAD_BYTES, EgressProxy
from proxy.metrics import UpstreamCounters
from proxy.settings import load_settings
from proxy.token_session import TunnelConnector, session_connector

ORIGIN = Origin("https", "api.svc.test", 443)
USER, PASSWORD = "me", "pass:w@rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
GIVEN = "http://me:pass%3Aw%40rd@127.0.0.1:{port}"


@dataclass
class Road:
    """A TLS service that only the proxy can reach, the proxy, and our side of it."""

    upstream: Upstream
    proxy: ConnectProxy
    dialer: Dialer
    pool: Pool
    counters: UpstreamCounters
    names: list[str]

    async def call(self, origin: Origin = ORIGIN) -> bytes:
        """One exchange; its body."""
        connection = self.pool.take(origin) or await self.pool.connect(origin)
        connection.send(b"GET", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.wait_head()
        while (body := connection.take_whole_body()) is None:
            await connection.wait_more()
        self.pool.give_back(connection)
        return body


@contextlib.asynccontextmanager
async def road(
    authority: Authority,
    *,
    wants: str | None = None,
    said: bytes | None = None,
    given: str = "http://127.0.0.1:{port}",
    tls: Any = None,
    connect: float = 5.0,
    **policy: Any,
) -> AsyncIterator[Road]:
    """Everything running; ``given`` is the setting, ``policy`` more of the egress policy."""
    upstream = Upstream(tls or authority.server(ORIGIN.host))
    upstream.script = replying(answer(200, b"fine"))
    names: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        names.append(host)
        return ["127.0.0.1"]

    async with upstream.running():
        proxy = ConnectProxy({"api.svc.test:443": upstream.port}, wants=wants, answer=said)
        async with proxy.running():
            made = EgressPolicy(
                ca_file=authority.ca_file,
                ca_hosts=("*.svc.test",),
                proxy=EgressProxy.parse(given.format(port=proxy.port)),
                **policy,
            )
            dialer, counters = Dialer(made, time.monotonic, resolve=resolve), UpstreamCounters()
            pool = Pool(dialer, UpstreamTimeouts(connect=connect), time.monotonic, counters)
            try:
                yield Road(upstream, proxy, dialer, pool, counters, names)
            finally:
                await pool.close()
                await dialer.aclose()


async def test_a_call_goes_through_and_the_tunnel_is_kept(authority: Authority) -> None:
    """One CONNECT by name, TLS with the service's own certificate inside, and the connection serves again (R67, R68)."""
    async with road(authority) as on:
        assert [await on.call() for _ in range(3)] == [b"fine"] * 3
        assert on.proxy.heads == [b"CONNECT api.svc.test:443 HTTP/1.1\r\nHost: api.svc.test:443\r\n\r\n"]
        assert on.upstream.peers[0].sni == "api.svc.test"
        assert on.upstream.peers[0].alpn == "http/1.1"
        assert b"GET /x" not in on.proxy.sent  # the proxy sees ciphertext
        assert on.names == ["127.0.0.1"]  # the service's name is for the proxy to resolve
        assert (on.counters.opened, on.counters.reused) == (1, 2)


async def test_the_proxys_password(authority: Authority) -> None:
    """User and password of the setting are sent to the proxy only; wrong ones are told as that, without them (R143)."""
    async with road(authority, wants=BASIC, given=GIVEN) as on:
        assert await on.call() == b"fine"
        assert f"Proxy-Authorization: {BASIC}\r\n".encode() in on.proxy.heads[0]
        assert b"Proxy-Authorization" not in on.upstream.peers[0].received
        assert PASSWORD not in repr(on.dialer.policy)
    async with road(authority, wants="Basic other", given=GIVEN) as on:
        with pytest.raises(UpstreamUnreachable, match="refused its credentials") as caught:
            await on.call()
        assert PASSWORD not in str(caught.value)
        assert on.counters.failed == 1


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", r"did not connect to the service \(403\)"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", r"\(502\)"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", r"\(101\)"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "not well-formed"),
        (b"SSH-2.0-x\r\n\r\n", "not well-formed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES, "not well-formed"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n", "closed the connection"),
        (b"", "closed the connection"),
    ],
)
async def test_a_proxy_that_does_not_connect(authority: Authority, said: bytes, text: str) -> None:
    """Refusals, other protocols, endless heads, early bytes and cut answers are an unreachable service, with the reason."""
    async with road(authority, said=said) as on:
        with pytest.raises(UpstreamUnreachable, match=text):
            await on.call()
        assert on.pool.open_connections == 0
        assert not on.upstream.peers


async def test_a_silent_proxy(authority: Authority) -> None:
    """A proxy that says nothing costs the connect timeout and no longer (R57)."""
    async with road(authority, connect=0.1) as on:
        hold = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                await hold.wait()

        on.proxy._serve = silent  # type: ignore[method-assign]  # the test's own proxy
        with pytest.raises(UpstreamTimeout):
            await on.call()
        hold.set()


@pytest.mark.parametrize("kind", ["stranger", "other_name", "expired"])
async def test_certificates_are_verified_inside(authority: Authority, kind: str) -> None:
    """Chain, name and dates of the service's certificate count as on a direct connection (R68)."""
    made = {
        "stranger": authority.server_of_stranger(ORIGIN.host),
        "other_name": authority.server("other.svc.test"),
        "expired": authority.server_expired(ORIGIN.host),
    }
    async with road(authority, tls=made[kind]) as on:
        with pytest.raises(UpstreamTls):
            await on.call()
        assert on.proxy.heads


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "0x7f.1", "2130706433", "localhost", "a.localhost"],
)
async def test_addresses_are_judged_before_the_proxy_is_asked(authority: Authority, host: str) -> None:
    """Private, special and oddly written addresses are refused here; the proxy never hears of them (R77)."""
    async with road(authority) as on:
        with pytest.raises(AddressRefused):
            await on.call(Origin("https", host, 443))
        assert not on.proxy.heads


async def test_what_goes_directly(authority: Authority) -> None:
    """Origins in ``connect_to`` and plain ones on loopback do not go through the proxy."""
    async with road(authority, connect_to={"other.svc.test:443": Dial("127.0.0.1", 1)}) as on:
        with pytest.raises(UpstreamUnreachable):
            await on.call(Origin("https", "other.svc.test", 443))
        plain = Upstream()
        plain.script = replying(answer(200, b"plain"))
        async with plain.running():
            assert await on.call(Origin("http", "127.0.0.1", plain.port)) == b"plain"
        assert not on.proxy.heads


async def test_a_proxy_that_is_ourselves(authority: Authority) -> None:
    """An egress proxy that is our own listener would go in circles: refused."""
    async with road(authority) as on:
        own = Dial("127.0.0.1", on.proxy.port)
        dialer = Dialer(EgressPolicy(proxy=on.dialer.policy.proxy, own=(own,)), time.monotonic)
        with pytest.raises(AddressRefused):
            await dialer.addresses(ORIGIN)


async def test_a_proxy_without_an_address() -> None:
    """An egress proxy whose name does not resolve makes services unreachable, not refused."""

    async def nothing(_host: str, _port: int) -> list[str]:
        raise OSError

    dialer = Dialer(EgressPolicy(proxy=EgressProxy("p.test", 1)), time.monotonic, resolve=nothing)
    with pytest.raises(UpstreamUnreachable):
        await dialer.addresses(ORIGIN)


async def test_token_endpoints_go_through_too(authority: Authority) -> None:
    """A session for a token endpoint tunnels like the data path, keeps its connection, and tells failures as OSError (R81)."""
    async with road(authority, wants=BASIC, given=GIVEN) as on:
        connector = session_connector(on.dialer, "https://api.svc.test/token")
        assert isinstance(connector, TunnelConnector)
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(2):
                async with session.get("https://api.svc.test/x") as got:
                    assert (got.status, await got.text()) == (200, "fine")
            assert len(on.proxy.heads) == 1
            with pytest.raises(OSError, match="another origin"):
                await session.get("https://elsewhere.test/x")
    async with road(authority, said=b"HTTP/1.1 403 No\r\n\r\n") as on:
        async with aiohttp.ClientSession(
            connector=session_connector(on.dialer, "https://api.svc.test")
        ) as session:
            with pytest.raises(OSError, match="403"):
                await session.get("https://api.svc.test/x")
        plain = session_connector(on.dialer, "http://127.0.0.1:1")
        assert isinstance(plain, aiohttp.TCPConnector)
        await plain.close()


@pytest.mark.parametrize(
    ("text", "host", "port", "secret"),
    [
        ("http://proxy.internal:3128", "proxy.internal", 3128, None),
        ("http://PROXY.internal", "proxy.internal", 80, None),
        ("http://[::1]:8888/", "::1", 8888, None),
        ("http://a:b@10.0.0.1:1", "10.0.0.1", 1, "a:b"),
        ("http://a%20:%3A@p:1", "p", 1, "a ::"),
    ],
)
def test_how_the_setting_reads(text: str, host: str, port: int, secret: str | None) -> None:
    """An http URL with or without user and password, percent-decoded once."""
    found = EgressProxy.parse(text)
    assert (found.host, found.port) == (host, port)
    assert (found.credentials.reveal() if found.credentials else None) == secret


@pytest.mark.parametrize(
    "text",
    [
        "https://p:1",
        "socks5://p:1",
        "p:1",
        "http://p:1/x",
        "http://user@p:1",
        "http://p:0",
        "http://",
        "http://é:b@p:1",
        "http://a:%FF@p:1",
    ],
)
def test_what_the_setting_may_not_be(text: str, tmp_path) -> None:
    """Other schemes, paths, users without passwords: refused, and what could be a password is not repeated."""
    with pytest.raises(ValueError, match=r"^must be http://host:port or") as caught:
        EgressProxy.parse(text)
    assert "b@p" not in str(caught.value)


def test_the_setting_loads_from_the_environment(tmp_path) -> None:
    """``CONNECTOR_PROXY_EGRESS__PROXY`` keeps a password out of files; no representation shows it (R143)."""
    given = {"HOME": str(tmp_path), "CONNECTOR_PROXY_EGRESS__PROXY": "http://me:hidden@p.test:3128"}
    settings = load_settings(None, given)
    policy = settings.egress.policy(())
    assert policy.proxy is not None
    assert (policy.proxy.host, policy.proxy.port) == ("p.test", 3128)
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(policy)
