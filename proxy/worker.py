"""A process that forwards, beside others of its kind: the data side on sockets that the supervisor bound.

It obeys its supervisor's frames and ends by itself when the supervisor is gone. ``supervisor`` has the order
in which both speak.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from functools import partial

import uvloop

from proxy import accesslog, log
from proxy.assembly.vaults import open_vault
from proxy.channel import Channel, InForce, Start, first_frame, unpacked
from proxy.core import Core, Prepared
from proxy.dataside import DataSide
from proxy.errors import ConfigurationError, SetupError
from proxy.feed import Batch
from proxy.listeners import Sockets
from proxy.runtime import settle_interpreter, settle_process
from proxy.sharedlog import SharedStream
from proxy.threads import in_daemon

REPORT_S = 1.0
_FAILED = 3
_STATM = "/proc/self/statm"
_IGNORED = (signal.SIGINT, signal.SIGHUP)  # a terminal sends them to the whole group: the supervisor's affair


class Worker:
    """One run of a worker.

    Args:
        start: what the supervisor said first.
        channel: to the supervisor.
        output: the log's.
    """

    def __init__(self, start: Start, channel: Channel, output: log.Output) -> None:
        self._start = start
        self._channel = channel
        self._output = output
        self._prepared: Prepared | None = None
        self._ended = asyncio.Event()
        self._drain_s = start.in_force.settings.data.drain_s
        self._answering: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serve until the supervisor says so or is gone; the exit status."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._ended.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, *_IGNORED))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._channel.close)
            try:
                core, data = await self._made(stack)
            except SetupError as error:
                self._channel.tell("failed", {"reason": str(error)})
                return _FAILED
            core.start()
            settle_interpreter()
            self._channel.tell(
                "loaded", {"taken": _taken(core), "definitions": _definitions(core), "pid": os.getpid()}
            )
            core.go(self._obey(core, data), "supervisor")
            core.keep(partial(self._report_always, core, data), "reports")
            await self._ended.wait()
            clean = await data.drain(self._drain_s)
            await core.end_tasks()
            self._report(core, data)
            self._channel.tell("drained", {"clean": clean})
        return 0

    async def _made(self, stack: AsyncExitStack) -> tuple[Core, DataSide]:
        in_force = self._start.in_force
        vault = None
        if self._start.has_vault:
            vault = await open_vault(in_force.settings, in_force.catalog)
            stack.push_async_callback(vault.close)
        events = stack.enter_context(accesslog.EventWriter(self._output))
        core = Core(in_force.settings, in_force.catalog, self._start.dials, vault)
        stack.push_async_callback(core.close)
        data = DataSide(
            core,
            _inherited(self._start),
            events,
            connect_url=self._start.connect_url,
            share=self._start.of,
        )
        stack.push_async_callback(data.close)
        core.on_taken = lambda sequence: self._channel.tell("taken", {"taken": sequence})
        _count_itself(core, str(self._start.number))
        return core, data

    # --- what the supervisor says -----------------------------------------------------------------------

    async def _obey(self, core: Core, data: DataSide) -> None:
        try:
            while (told := await self._channel.receive()) is not None:
                kind, body = told
                if kind == "go":
                    await data.start()
                    self._channel.tell("ready", {})
                elif kind == "prepare":
                    core.go(self._prepare(core, unpacked(body)), "reload")
                elif kind == "commit":
                    self._commit(core)
                elif kind == "watch":
                    data.watch(self._tell_requests if body else None)
                elif kind == "drain":
                    return
            log.event("supervisor_gone", level="error")
        finally:
            self._ended.set()

    async def _prepare(self, core: Core, wanted: InForce) -> None:
        self._prepared = None
        faults: str | None = None
        try:
            # helper commands may run for a while, and requests go on
            self._prepared = await in_daemon(
                partial(core.prepare, wanted.settings, wanted.catalog), name="reload"
            )
        except ConfigurationError as error:
            faults = str(error)
        except Exception as error:  # noqa: BLE001  # a fault of ours refuses the reload, it does not end the worker
            log.crash("reload_failed", error)
            faults = f"a fault of this program ({type(error).__qualname__})"
        self._channel.tell("prepared", {"faults": faults})

    def _commit(self, core: Core) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            core.reload(prepared)
        self._channel.tell("committed", {})

    # --- what it tells ----------------------------------------------------------------------------------

    async def _report_always(self, core: Core, data: DataSide) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            if not self._channel.is_clogged:
                self._report(core, data)

    def _tell_requests(self, batch: Batch) -> None:
        if not self._channel.is_clogged:
            self._channel.tell("requests", batch._asdict())

    def _report(self, core: Core, data: DataSide) -> None:
        self._channel.tell(
            "report",
            {
                "tally": core.metrics.tally(for_others=True),
                "uses": core.take_uses(),
                "account_uses": core.take_account_uses(),
                "budgets": [(*one[:2], tuple(one.left), one.at) for one in data.take_budgets()],
                "checks": {**data.checks(), **core.checks()},
            },
        )


def _taken(core: Core) -> int:
    return 0 if core.vault is None else core.vault.snapshot.sequence


def _definitions(core: Core) -> dict[str, object]:
    return {
        name: (one.text, one.label, one.is_counter, one.shared)
        for name, one in core.metrics.definitions.items()
    }


def _count_itself(core: Core, number: str) -> None:
    core.metrics.gauge(
        "worker_resident_memory_bytes", "Memory of workers", lambda: {number: _resident()}, label="worker"
    )
    core.metrics.counter(
        "worker_cpu_seconds", "CPU time of workers", lambda: {number: time.process_time()}, label="worker"
    )


def _resident() -> int:
    try:
        with open(_STATM, encoding="ascii") as file:  # noqa: PTH123  # no object is made of a constant each second
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0


def _inherited(start: Start) -> Sockets:
    def take(handle: int) -> socket.socket:
        os.set_inheritable(handle, False)
        one = socket.socket(fileno=handle)
        one.setblocking(False)
        return one

    return Sockets(
        tuple(map(take, start.data)),
        tuple(map(take, start.tls)),
        (),
        tuple((service, take(handle)) for service, handle in start.own),
    )


def main(handle: int) -> int:
    """Run a worker whose supervisor is at the other end of ``handle``; the exit status."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(handle, False)
    ours = socket.socket(fileno=handle)
    try:
        start: Start = unpacked(first_frame(ours)[1])
    except EOFError:
        return _FAILED
    os.set_inheritable(start.log_lock, False)
    given = start.in_force.settings.log
    stream = SharedStream(sys.stderr, start.log_lock)
    output = log.configure(given.format, given.level, stream, worker=start.number)
    settle_process()

    async def run() -> int:
        return await Worker(start, await Channel.over(ours), output).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
