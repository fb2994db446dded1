"""Stopping: what is in flight finishes, nothing new begins, and the exit is clean (R70)."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time

import pytest
from support import raw, strict
from support.lab import Lab
from support.serving import until
from support.upstream import Peer, chunk, silent


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_in_flight_finishes_then_exit_0(patient: Lab, number: signal.Signals) -> None:
    """A request in flight is answered whole after the signal; then the process exits with 0 (SMK ShuttingDown, R70)."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one"))
        await asyncio.sleep(0.2)
        await peer.send(chunk(b"two") + chunk(b""))
        await peer.ended.wait()

    async with patient as lab:
        lab.upstream.script = script
        async with lab.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            await asyncio.wait_for(lab.upstream.peer(), 20)
            await told_to_stop(lab, number)
            await asyncio.sleep(0.3)
            assert lab.proxy.running
            go.set()
            got = await caller.answer()
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


async def test_second_signal_forces(patient: Lab) -> None:
    """A second signal does not wait (R70)."""
    async with patient as lab:
        lab.upstream.script = silent
        async with lab.calling() as caller:
            await caller.send(raw.request("GET", "/test/x", key=lab.proxy.key))
            await asyncio.wait_for(lab.upstream.peer(), 20)
            await told_to_stop(lab)
            await asyncio.sleep(0.5)  # what comes sooner counts as the same signal
            lab.proxy.signal(signal.SIGTERM)
            await ended(lab)


async def test_idle_connections_do_not_hold_it_up(patient: Lab) -> None:
    """Idle keep-alive connections are closed at once (NGX http_keepalive_shutdown, R70)."""
    async with patient as lab, contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            caller = await stack.enter_async_context(lab.calling())
            assert (await lab.ask(caller, "GET", "/test/x")).status == 200
        lab.proxy.signal(signal.SIGTERM)
        assert await ended(lab) == 0


@pytest.mark.parametrize("sent", [0, 1, 40], ids=["nothing", "one byte", "half a head"])
async def test_a_request_that_was_on_its_way_is_answered(patient: Lab, sent: int) -> None:
    """A caller accepted before the stop, whose request arrives after it, gets its answer, not a 503 (R58, R70)."""
    async with patient as lab:
        async with lab.calling() as caller:
            whole = raw.request("GET", "/test/x", key=lab.proxy.key)
            await caller.send(whole[:sent])
            assert (await lab.call("GET", "/test/x")).status == 200  # by now that one is accepted too
            await told_to_stop(lab)
            await caller.send(whole[sent:])
            got = await caller.answer()
            assert (got.status, got.value("connection")) == (200, b"close")
        assert await ended(lab) == 0


async def test_a_caller_that_sends_nothing_does_not_hold_it_up(patient: Lab) -> None:
    """New connections without a request have about a second, not the whole drain time (R70)."""
    async with patient as lab, lab.calling() as silent_one, lab.calling() as half:
        await half.send(b"GET /test/x HT")
        assert (await lab.call("GET", "/test/x")).status == 200
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


async def test_a_second_start_on_the_same_folder_is_refused(own: Lab, tmp_path) -> None:
    """Two servers never share a data folder: the second exits with 3 and says why."""
    async with own as lab:
        command = [
            sys.executable,
            "-m",
            "proxy",
            "serve",
            "--config",
            str(lab.proxy.config),
            "--data-dir",
            str(lab.proxy.data_dir),
            "--port",
            "0",
            "--control-port",
            "0",
        ]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=lab.proxy.environment,
            cwd=tmp_path,
        )
        assert done.returncode == 3
        assert str(lab.proxy.data_dir) in done.stderr
        assert (await lab.call("GET", "/test/x")).status == 200
