"""The pool of upstream connections, over real sockets, with a clock that the tests move."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from support.certificates import Authority
from support.silence import silent
from support.upstream import Peer, Script, Upstream, answer, replying

from proxy.catalog.origin import Origin
from proxy.errors import (
    AddressRefused,
    RequestError,
    UpstreamTimeout,
    UpstreamTls,
    UpstreamUnreachable,
)
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.forwarding.pool import IDLE_S, Pool, UpstreamTimeouts
from proxy.forwarding.upstream import UpstreamConnection
from proxy.metrics import UpstreamCounters

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Lane:
    """A pool whose clock and name server are the test's."""

    def __init__(self, policy: EgressPolicy | None = None, timeouts: UpstreamTimeouts | None = None) -> None:
        self.now = 1000.0
        self.names: dict[str, Sequence[str]] = {}
        self.lookups: list[str] = []
        self.counters = UpstreamCounters()
        self.dialer = Dialer(
            policy or EgressPolicy(allow_addresses=LOOPBACK), lambda: self.now, resolve=self._resolve
        )
        self.pool = Pool(self.dialer, timeouts or UpstreamTimeouts(), lambda: self.now, self.counters)

    async def _resolve(self, host: str, _port: int) -> Sequence[str]:
        self.lookups.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]

    async def exchange(self, connection: UpstreamConnection) -> bytes:
        """One whole exchange; the connection goes back to the pool."""
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        body = connection.take_whole_body()
        self.pool.give_back(connection)
        assert body is not None
        return body

    async def fresh(self, origin: Origin) -> UpstreamConnection:
        """A new connection that has carried one exchange and is idle in the pool."""
        connection = await self.pool.connect(origin)
        await self.exchange(connection)
        return connection


@contextlib.asynccontextmanager
async def lane(
    *scripts: Script,
    policy: EgressPolicy | None = None,
    timeouts: UpstreamTimeouts | None = None,
) -> AsyncIterator[tuple[Lane, list[Upstream]]]:
    made, upstreams = Lane(policy, timeouts), [Upstream() for _ in scripts]
    for upstream, script in zip(upstreams, scripts, strict=True):
        upstream.script = script
        await upstream.start()
    try:
        async with asyncio.timeout(10):
            yield made, upstreams
    finally:
        await made.pool.close()
        await made.dialer.aclose()
        for upstream in upstreams:
            await upstream.stop()
        assert made.pool.open_connections == 0


def local(upstream: Upstream, host: str = "127.0.0.1") -> Origin:
    return Origin("http", host, upstream.port)


async def ended(upstream: Upstream, number: int = 0) -> Peer:
    peer = await upstream.peer(number)
    await peer.ended.wait()
    return peer


async def until(so: Callable[[], bool]) -> None:
    """Turns the loop until it is so; what is waited for here tells nobody."""
    while not so():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


OK = replying(answer(200, b"ok"))


async def test_the_newest_idle_connection_is_taken() -> None:
    """What was used last is taken first, so that what is not needed grows old and goes (R67)."""
    async with lane(OK) as (on, (upstream,)):
        origin = local(upstream)
        assert on.pool.take(origin) is None
        one, two = await on.pool.connect(origin), await on.pool.connect(origin)
        await on.exchange(one)
        await on.exchange(two)
        assert on.pool.take(origin) is two
        assert on.pool.take(origin) is one
        assert on.pool.take(origin) is None
        assert (on.counters.opened, on.counters.reused, on.counters.failed) == (2, 2, 0)
        assert on.pool.open_connections == 2


async def test_one_name_is_not_another() -> None:
    """A connection made under one name is never used for another that has the same address and port (R67)."""
    async with lane(OK) as (on, (upstream,)):
        on.names = {"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]}
        first = await on.fresh(local(upstream, "a.example"))
        await on.dialer.addresses(local(upstream, "b.example"))
        assert on.pool.take(local(upstream, "b.example")) is None
        assert on.pool.take(local(upstream)) is None
        assert on.pool.take(local(upstream, "a.example")) is first


async def test_one_port_is_not_another() -> None:
    """Two ports of one host are two origins (R67)."""
    async with lane(OK, replying(answer(200, b"second"))) as (on, (one, two)):
        await on.fresh(local(one))
        await on.dialer.addresses(local(two))
        assert on.pool.take(local(two)) is None
        assert await on.exchange(await on.pool.connect(local(two))) == b"second"


async def test_one_scheme_is_not_another() -> None:
    """What was opened in the clear is never used where TLS is asked for (R67, R68)."""
    async with lane(OK) as (on, (upstream,)):
        await on.fresh(local(upstream))
        secure = Origin("https", "127.0.0.1", upstream.port)
        await on.dialer.addresses(secure)
        assert on.pool.take(secure) is None


async def test_one_address_is_not_another() -> None:
    """When a name moves, connections to its old address are not used any more, and are again if it moves back (R67, R78)."""
    async with lane(OK) as (on, (upstream,)):
        origin = local(upstream, "a.example")
        on.names = {"a.example": ["127.0.0.1"]}
        old = await on.fresh(origin)
        on.names = {"a.example": ["127.0.0.2"]}
        on.now += 21  # longer than addresses are remembered
        assert on.pool.take(origin) is None  # not known without waiting: nobody waits here
        await on.dialer.addresses(origin)
        assert on.pool.take(origin) is None
        on.names = {"a.example": ["127.0.0.2", "127.0.0.1"]}
        on.now += 8
        on.dialer.forget(origin)
        await on.dialer.addresses(origin)
        assert on.pool.take(origin) is old


async def test_idle_connections_grow_old() -> None:
    """A connection that nobody used for ``IDLE_S`` seconds is closed; one that was used is not (R67)."""
    async with lane(OK) as (on, (upstream,)):
        origin = local(upstream)
        one, two = await on.pool.connect(origin), await on.pool.connect(origin)
        await on.exchange(one)
        on.now += IDLE_S
        await on.exchange(two)
        on.pool.sweep(on.now)
        assert one.usable
        on.pool.sweep(on.now + 0.1)
        await ended(upstream)
        await until(lambda: on.pool.open_connections == 1)
        await on.dialer.addresses(origin)
        assert on.pool.take(origin) is two
        assert on.pool.open_connections == 1


async def test_a_lost_idle_connection_is_forgotten() -> None:
    """A connection that the service closed while it was idle is not handed out (R67)."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"ok"))
        await gone.wait()

    async with lane(script) as (on, (upstream,)):
        await on.fresh(local(upstream))
        gone.set()
        await until(lambda: on.pool.open_connections == 0)
        assert on.pool.take(local(upstream)) is None
        assert on.counters.reused == 0


@pytest.mark.parametrize("late", [b"\r\n", b"x", answer(200, b"for nobody")])
async def test_late_bytes_end_an_idle_connection(late: bytes) -> None:
    """Bytes behind an answer, in whatever piece they come, take their connection out of the pool (R48, R67)."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"ok"))
        await go_on.wait()
        await peer.send(late)
        await peer.more()

    async with lane(script) as (on, (upstream,)):
        await on.fresh(local(upstream))
        go_on.set()
        await ended(upstream)
        await until(lambda: on.pool.open_connections == 0)
        assert on.pool.take(local(upstream)) is None


async def test_what_ends_is_not_kept() -> None:
    """After ``Connection: close`` and after bytes too many the connection is closed, not kept (R48, R67)."""
    for bytes_ in (answer(200, b"ok", (b"Connection", b"close")), answer(200, b"ok") + b"\n"):
        async with lane(replying(bytes_)) as (on, (upstream,)):
            await on.fresh(local(upstream))
            assert on.pool.take(local(upstream)) is None
            await ended(upstream)


async def silence(peer: Peer) -> None:
    while True:
        await peer.more()


HEAD_ONLY = replying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
LIMITS = UpstreamTimeouts(first_byte=10, idle=20, total=50)


async def failure(connection: UpstreamConnection) -> RequestError | None:
    """What ended the exchange, if something did."""
    return connection._reader.fault


async def test_the_first_byte_has_a_time() -> None:
    """No head within ``first_byte`` seconds of the whole request: the exchange fails with a timeout (R57)."""
    async with lane(silence, timeouts=LIMITS) as (on, (upstream,)):
        connection = await on.pool.connect(local(upstream))
        on.now += 500  # how long the connection has been there does not count
        connection.send(b"GET", REQUEST)
        on.pool.sweep(on.now + 10)
        assert await failure(connection) is None
        on.pool.sweep(on.now + 10.1)
        with pytest.raises(UpstreamTimeout):
            await connection.wait_head()
        await ended(upstream)


async def test_an_upload_has_the_idle_time() -> None:
    """While the request is still being sent the idle time counts; the first-byte time begins when it is whole (R57)."""
    async with lane(silence, timeouts=LIMITS) as (on, (upstream,)):
        connection = await on.pool.connect(local(upstream))
        connection.send(b"POST", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", uploading=True)
        on.now += 19
        on.pool.sweep(on.now)
        await connection.write(b"abc")
        on.now += 19
        on.pool.sweep(on.now)
        connection.upload_finished()
        on.pool.sweep(on.now + 9)
        assert await failure(connection) is None
        on.pool.sweep(on.now + 11)
        assert isinstance(await failure(connection), UpstreamTimeout)


async def test_silence_within_a_body_has_a_time() -> None:
    """No byte for ``idle`` seconds within an answer: it fails, and is not kept (R57)."""
    async with lane(HEAD_ONLY, timeouts=LIMITS) as (on, (upstream,)):
        connection = await on.pool.connect(local(upstream))
        connection.send(b"GET", REQUEST)
        await connection.wait_head()
        on.pool.sweep(on.now + 20)
        assert await failure(connection) is None
        on.pool.sweep(on.now + 20.1)
        assert isinstance(await failure(connection), UpstreamTimeout)
        on.pool.give_back(connection)
        await ended(upstream)


async def test_the_whole_exchange_has_a_time() -> None:
    """``total`` ends an exchange however busy it is; the next one on the connection has its own time (R57)."""
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, b"ok"))
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        while True:
            await more.wait()
            more.clear()
            await peer.send(b"x")

    async with lane(script, timeouts=LIMITS) as (on, (upstream,)):
        connection = await on.fresh(local(upstream))
        on.now += 25
        assert on.pool.take(local(upstream)) is None  # the address has to be looked up again
        connection.send(b"GET", REQUEST)
        began = on.now
        await connection.wait_head()
        while on.now < began + 48:
            on.now += 16
            size = connection._reader.size
            more.set()
            await until(lambda before=size: connection._reader.size > before)
            on.pool.sweep(on.now)
            assert await failure(connection) is None
        on.pool.sweep(began + 50.1)
        assert isinstance(await failure(connection), UpstreamTimeout)


async def test_no_time_is_no_limit() -> None:
    """Zero seconds mean that nobody waits for them (R57)."""
    async with lane(silence, timeouts=UpstreamTimeouts(0, 0, 0, 0)) as (on, (upstream,)):
        connection = await on.pool.connect(local(upstream))
        connection.send(b"GET", REQUEST)
        on.pool.sweep(on.now + 1e9)
        assert await failure(connection) is None


async def test_timers_run_by_themselves() -> None:
    """Once started, the pool looks at its connections without being told."""
    async with lane(silence, timeouts=LIMITS) as (on, (upstream,)):
        on.pool.start()
        connection = await on.pool.connect(local(upstream))
        connection.send(b"GET", REQUEST)
        on.now += 11
        with pytest.raises(UpstreamTimeout):
            await connection.wait_head()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_refused_connection_forgets_the_name() -> None:
    """After no address accepted, the name is looked up anew: the service may have moved (R62)."""
    async with lane(OK) as (on, (upstream,)):
        origin = Origin("http", "a.example", closed_port())
        on.names = {"a.example": ["127.0.0.1"]}
        for tries in (1, 2):
            with pytest.raises(UpstreamUnreachable):
                await on.pool.connect(origin)
            assert len(on.lookups) == tries
            assert on.dialer.ready(origin) is None
        assert on.counters.failed == 2
        assert on.counters.opened == 0
        assert not upstream.peers


async def test_the_next_address_is_tried() -> None:
    """An address that refuses is skipped for the next one, and what works is remembered under its own address (R79)."""
    async with lane(OK) as (on, (upstream,)):
        on.names = {"a.example": ["127.0.0.9", "127.0.0.1"]}
        origin = local(upstream, "a.example")
        connection = await on.fresh(origin)
        assert connection.address == f"127.0.0.1:{upstream.port}"
        assert on.pool.take(origin) is connection


async def test_a_slow_connect_has_a_time() -> None:
    """A connection that is not accepted within ``connect`` seconds fails with a timeout and forgets the name (R57)."""
    with silent("127.0.0.1") as port, silent("127.0.0.2", port):
        async with lane(timeouts=UpstreamTimeouts(connect=0.6)) as (on, _):
            on.names = {"a.example": ["127.0.0.1", "127.0.0.2"]}
            origin = Origin("http", "a.example", port)
            with pytest.raises(UpstreamTimeout):
                await on.pool.connect(origin)
            assert on.dialer.ready(origin) is None
            assert on.counters.failed == 1


async def test_an_address_that_says_nothing_is_passed_over() -> None:
    """The calls of a service whose first address swallows connections go to its next one (R57, R79)."""
    async with lane(OK, timeouts=UpstreamTimeouts(connect=8)) as (on, (upstream,)):
        on.names = {"a.example": ["127.0.0.2", "127.0.0.1"]}
        origin = local(upstream, "a.example")
        with silent("127.0.0.2", upstream.port):
            connection = await on.fresh(origin)
        assert connection.address == f"127.0.0.1:{upstream.port}"
        assert on.pool.take(origin) is connection
        assert (on.counters.opened, on.counters.failed, on.pool.open_connections) == (1, 0, 1)


async def test_refused_addresses_and_unknown_names() -> None:
    """What must not be dialled, and what does not resolve, fails as such and is counted (R78)."""
    async with lane() as (on, _):
        on.names = {"private.example": ["10.0.0.1"]}
        with pytest.raises(AddressRefused):
            await on.pool.connect(Origin("https", "private.example", 443))
        with pytest.raises(UpstreamUnreachable):
            await on.pool.connect(Origin("https", "nowhere.example", 443))
        assert on.counters.failed == 2


async def test_tls_is_verified_under_the_origin_name(authority: Authority) -> None:
    """The certificate must be of the origin's name, whatever address is dialled; another name is no connection (R67, R68)."""
    upstream = Upstream(authority.server("up.example"))
    upstream.script = OK
    await upstream.start()
    dial = Dial("127.0.0.1", upstream.port)
    policy = EgressPolicy(
        connect_to={"up.example:443": dial, "wrong.example:443": dial}, ca_file=authority.ca_file
    )
    try:
        async with lane(policy=policy) as (on, _):
            good = await on.fresh(Origin("https", "up.example", 443))
            with pytest.raises(UpstreamTls):
                await on.pool.connect(Origin("https", "wrong.example", 443))
            assert on.pool.take(Origin("https", "wrong.example", 443)) is None
            assert on.pool.take(Origin("https", "up.example", 443)) is good
    finally:
        await upstream.stop()


async def test_closing_drops_everything() -> None:
    """Idle or at work, no connection is left when the pool closes (R70)."""
    async with lane(OK) as (on, (upstream,)):
        on.pool.start()
        await on.fresh(local(upstream))
        busy = await on.pool.connect(local(upstream))
        busy.send(b"GET", REQUEST)
        await on.pool.close()
        assert on.pool.open_connections == 0
        await ended(upstream, 0)
        await ended(upstream, 1)
        with pytest.raises(UpstreamUnreachable):
            await busy.wait_head()


async def test_an_aborted_connection_is_not_taken() -> None:
    """From the moment in which an idle connection is dropped nobody gets it, also before its loss is told (R67)."""
    async with lane(OK) as (on, (upstream,)):
        connection = await on.fresh(local(upstream))
        on.pool.sweep(on.now + IDLE_S + 1)
        assert not connection.usable
        assert on.pool.take(local(upstream)) is None
