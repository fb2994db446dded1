"""Stopping: what is in flight finishes, nothing new begins, and the exit is clean (R70)."""

import asyncio
import contextlib
import signal
import time

import pytest
from support import raw, strict
from support.lab import Lab
from support.serving import until
from support.upstream import Peer, answer, chunk, silent


@pytest.fixture
def own(authority, tmp_path):
    """A proxy of the test's own, not yet started."""
    return Lab(authority, tmp_path, settings={"data": {"drain_s": 3}})


@pytest.fixture
def patient(authority, tmp_path):
    """The same with a drain time (60 s) that no test waits for: what ends within 20 s did not use it."""
    return Lab(authority, tmp_path, settings={"data": {"drain_s": 60}})


async def ended(lab: Lab, limit: float = 20.0) -> int:
    """The exit status, waited for without blocking the loop."""
    return await asyncio.to_thread(lab.proxy.wait, limit)


async def told_to_stop(lab: Lab, number: signal.Signals = signal.SIGTERM) -> None:
    """The signal, sent and taken in."""
    lab.proxy.signal(number)
    await asyncio.to_thread(until, lambda: "stopping" in lab.proxy.log, 20, lab.proxy)


PARTS = {"nothing": 0, "one byte": 1, "half a head": 40}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_under_way_finishes_then_exit_0(patient: Lab, number: signal.Signals) -> None:
    """After the signal a request in flight is answered whole (SMK ShuttingDown, R70), and so is one on its way.

    That is one of a caller accepted before the stop, whose request, or the rest of it, arrives after it: it gets
    its answer, not a 503 (R58). Then the process exits with 0.
    """
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target != b"/slow":
            await peer.send(answer(200, b"in time"))
            return
        await go.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one"))
        await asyncio.sleep(0.2)
        await peer.send(chunk(b"two") + chunk(b""))
        await peer.ended.wait()

    async with patient as lab, contextlib.AsyncExitStack() as stack:
        lab.upstream.script = script
        slow = await stack.enter_async_context(lab.calling())
        await slow.send(raw.request("GET", "/test/slow", key=lab.proxy.key))
        await asyncio.wait_for(lab.upstream.peer(), 20)
        whole = raw.request("GET", "/test/x", key=lab.proxy.key)
        late = {name: await stack.enter_async_context(lab.calling()) for name in PARTS}
        for name, sent in PARTS.items():
            await late[name].send(whole[:sent])
        assert (await lab.call("GET", "/test/y")).status == 200  # by now those are accepted too
        await told_to_stop(lab, number)
        for name, sent in PARTS.items():
            await late[name].send(whole[sent:])
        for name, caller in late.items():
            got = await caller.answer()
            assert (got.status, got.value("connection")) == (200, b"close"), name
        assert lab.proxy.running
        go.set()
        got = await slow.answer()
        assert (got.status, got.body) == (200, b"onetwo")
        assert await ended(lab) == 0
        assert "Traceback" not in lab.proxy.log


async def _status(caller: raw.Caller, target: str, key: str | None) -> int | None:
    """The status of one more answer, or None when the connection ends without one."""
    await caller.send(raw.request("GET", target, key=key))
    try:
        return (await caller.answer(deadline=20)).status
    except strict.Incomplete:
        return None


async def test_nothing_new_begins(own: Lab) -> None:
    """While draining, health says 503 where it can still be asked, and new requests do not reach the upstream (R70)."""
    async with own as lab:
        lab.upstream.script = silent
        async with lab.calling() as idle, lab.calling() as busy:
            assert (await raw.call(lab.proxy.address, "GET", "/-/health", key=None)).status == 200
            await idle.send(raw.request("GET", "/-/health", key=None))
            assert (await idle.answer()).status == 200
            await busy.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            await asyncio.wait_for(lab.upstream.peer(), 20)
            await told_to_stop(lab)
            statuses = [await _status(idle, "/-/health", None)]
            with contextlib.suppress(ConnectionError):
                async with lab.calling() as fresh:
                    statuses.append(await _status(fresh, "/test/new", lab.proxy.key))
            assert set(statuses) <= {503, None}
        await ended(lab)
        assert [m.target for m in lab.upstream.seen()] == [b"/x"]


async def test_drain_time_is_a_limit(own: Lab) -> None:
    """What does not finish within the drain time is cut; the process still ends (R70)."""
    async with own as lab:
        lab.upstream.script = silent
        async with lab.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            await asyncio.wait_for(lab.upstream.peer(), 20)
            begin = time.monotonic()
            lab.proxy.signal(signal.SIGTERM)
            assert await ended(lab) == 0
        assert time.monotonic() - begin > 2.0


async def test_idle_and_silent_connections_do_not_hold_it_up(patient: Lab) -> None:
    """Idle keep-alive connections are closed at once (NGX http_keepalive_shutdown, R70), new ones without a request after a second."""
    async with (
        patient as lab,
        lab.calling() as silent_one,
        lab.calling() as half,
        contextlib.AsyncExitStack() as stack,
    ):
        await half.send(b"GET /test/x HT")
        for _ in range(20):
            caller = await stack.enter_async_context(lab.calling())
            assert (await lab.ask(caller, "GET", "/test/x")).status == 200
        lab.proxy.signal(signal.SIGTERM)
        assert await ended(lab) == 0
        assert silent_one.received == half.received == b""


async def test_under_load_no_answer_is_cut(patient: Lab, report) -> None:
    """With 20 busy callers, every answer that began before the signal is whole (goal: 0 cut responses)."""
    cut: list[str] = []
    whole = 0

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                *(chunk(b"x" * 500) for _ in range(5)),
            )
            await peer.send(chunk(b""))

    async def busy(lab: Lab) -> None:
        nonlocal whole
        with contextlib.suppress(ConnectionError):
            async with lab.calling() as caller:
                while True:
                    await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
                    try:
                        got = await caller.answer()
                    except Exception as error:  # noqa: BLE001  # judged below
                        if bytes(caller.received[caller._at :]):
                            cut.append(repr(error))
                        return
                    if got.status == 200:
                        assert len(got.body) == 2500
                        whole += 1

    async with patient as lab:
        lab.upstream.script = script
        tasks = [asyncio.create_task(busy(lab)) for _ in range(20)]
        while whole <= 20:  # noqa: ASYNC110  # callers that go on by themselves
            await asyncio.sleep(0.05)
        lab.proxy.signal(signal.SIGTERM)
        status = await ended(lab)
        await asyncio.gather(*tasks)
    report(f"SIGTERM under load: {whole} whole answers, {len(cut)} cut")
    assert (cut, status) == ([], 0)
