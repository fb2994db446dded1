"""Several processes that forward, as one server: who starts them, keeps them alive and speaks for them.

The supervisor binds every socket and never answers on those of the data plane: each worker accepts from the
same ones, so what waits to be accepted outlives any worker. It runs the control side, holds the data folder's
lock, and adds up what the workers report. A worker's life, frame by frame::

    supervisor                     worker
    start (settings, sockets)  ->
                               <-  loaded (change of the vault that is in force), then taken, report
    go                         ->                   only once it has taken what all others have
                               <-  ready
    prepare, commit            ->  prepared, committed                                     (SIGHUP)
    watch (or no more)         ->  requests                                     (somebody looks on)
    drain                      ->  report, drained, end of file                           (SIGTERM)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from proxy import listeners, log
from proxy.app import connect_url, ground
from proxy.catalog.model import Catalog
from proxy.channel import InForce, Start, packed
from proxy.connectors.refresh.refresher import GRACE_S
from proxy.connectors.vault import Vault
from proxy.control.health import Readiness
from proxy.controlside import ControlSide
from proxy.core import Core, Prepared
from proxy.errors import ConfigurationError, Fault, StateError
from proxy.reports import Reports
from proxy.restarts import Restarts
from proxy.settings import Settings
from proxy.spawn import spawn
from proxy.supervised import Supervised, WorkerLostError

SILENT_S = 30  # a worker that has told nothing for so long hangs
START_S = 120  # the same before it has loaded: the master key may come from a command
_FIRST_DEATHS = 3  # a worker that never came up is tried so often
LAST_WORK_S = GRACE_S + 5.0  # after its drain time: refreshes under way, and what a worker lets go of
_PREPARE_S = 120.0  # declared keys may come from commands
_COMMIT_S = 10.0
_ON = b"on"


class Supervisor:
    """A server of several processes; made by :func:`opened`, used as an :class:`~proxy.app.App`.

    Args:
        core: of this process, which forwards nothing.
        sockets: bound.
        workers: how many.
        log_lock: the log's, which workers inherit.
        on_taken: told the number of each change of the vault that is in force everywhere from now on.
    """

    def __init__(
        self,
        core: Core,
        sockets: listeners.Sockets,
        *,
        workers: int,
        log_lock: int,
        on_taken: Callable[[int], None],
    ) -> None:
        self.core = core
        self.sockets = sockets
        self._of = workers
        self._log_lock = log_lock
        self._on_taken = on_taken
        self._control = ControlSide(core, sockets, self.readiness)
        self._control.feed.on_watch = self._watch_requests
        self._workers: dict[int, Supervised] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._reports = Reports()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._given_up: str | None = None
        self._clean = True
        core.on_taken = lambda _: self._settle_taken()
        core.take_uses = self._reports.take_uses
        core.take_account_uses = self._reports.take_account_uses
        self._control.take_budgets = self._reports.take_budgets
        core.metrics.others = lambda: self._reports.tallies(self._workers.values())
        core.metrics.gauge("workers_ready", "Workers that answer requests", lambda: len(self._ready()))
        core.metrics.gauge("workers", "Workers there should be", lambda: self._of)
        core.metrics.counter("worker_deaths", "Workers that ended unasked", lambda: self._reports.deaths)

    # --- running ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and wait until all of them accept connections.

        Raises:
            StateError: they do not come up.
        """
        self.core.start()
        await self._control.start()
        loop = asyncio.get_running_loop()
        self._keepers = [
            loop.create_task(self._keep(number), name=f"worker {number}") for number in range(1, self._of + 1)
        ]
        self.core.keep(self._watch, "silent workers")
        while len(self._ready()) < self._of and self._given_up is None:
            self._changed.clear()
            await self._changed.wait()
        if self._given_up is not None:
            raise StateError(self._given_up)

    async def _keep(self, number: int) -> None:
        """Have one worker at this place, and another one whenever it ends."""
        restarts = Restarts()
        was_ready = False
        while not self._stopping.is_set() and self._given_up is None:
            begun = time.monotonic()
            worker: Supervised | None = None
            try:
                worker = self._spawned(number)
                how = await worker.run(packed(self._start_of(number)))
            except OSError as error:
                how = str(error)
            except Exception as error:  # noqa: BLE001  # a fault of ours costs a worker, not the server
                log.crash("worker_failed", error, worker=number)
                how = f"a fault of this program ({type(error).__qualname__})"
            finally:
                if worker is not None:
                    self._ended(worker)
            if self._stopping.is_set() or (worker is not None and worker.is_outdated):
                continue
            delay = restarts.after(time.monotonic() - begun)
            self._tell_end(number, worker, how, delay)
            was_ready = was_ready or (worker is not None and worker.was_ready)
            failure = None if worker is None else worker.failure
            if not was_ready and (failure or restarts.quick >= _FIRST_DEATHS):
                self._given_up = f"worker {number} cannot start: {failure or how}"
                self._changed.set()
            elif restarts.is_loop:
                log.event("worker_crash_loop", level="error", worker=number, ends=restarts.quick)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    def _tell_end(self, number: int, worker: Supervised | None, how: str, delay: float) -> None:
        self._reports.deaths += 1
        log.event(
            "worker_ended",
            level="info" if worker is not None and worker.has_drained else "error",
            worker=number,
            pid=None if worker is None else worker.pid,
            how=how,
            reason=None if worker is None else worker.failure,
            again_in_s=delay,
        )

    def _spawned(self, number: int) -> Supervised:
        served = (*self.sockets.data, *self.sockets.tls, *(one for _, one in self.sockets.own))
        child, ours = spawn((self._log_lock, *(one.fileno() for one in served)))
        worker = self._workers[number] = Supervised(number, child, ours, self._told)
        return worker

    def _start_of(self, number: int) -> Start:
        sockets = self.sockets
        return Start(
            number,
            self._of,
            InForce(self.core.settings, self.core.catalog),
            tuple(one.fileno() for one in sockets.data),
            tuple(one.fileno() for one in sockets.tls),
            tuple((service, one.fileno()) for service, one in sockets.own),
            listeners.dials(sockets.all),
            self._log_lock,
            self.core.vault is not None,
            connect_url(self.core, sockets),
        )

    def _ended(self, worker: Supervised) -> None:
        """Keep what it has counted; nobody waits for it any more."""
        del self._workers[worker.number]
        self._reports.retire(worker)
        if self._stopping.is_set():
            self._clean = self._clean and worker.drained_clean
        if self.core.refresher is not None and not self._stopping.is_set():
            self.core.go(self.core.refresher.look(), "refreshes of a worker that ended")
        self._settle_taken()
        self._changed.set()

    async def _watch(self) -> None:
        """Kill workers that hang; another one takes their place."""
        while True:
            await asyncio.sleep(1.0)  # our own seconds: a machine that slept makes nobody late
            for worker in self._workers.values():
                worker.silent_for += 1
                if worker.silent_for == (SILENT_S if worker.may_go else START_S):
                    log.event("worker_hangs", level="error", worker=worker.number, pid=worker.pid)
                    worker.kill()

    # --- what workers tell ------------------------------------------------------------------------------

    def _told(self, worker: Supervised, kind: str) -> None:
        if kind == "loaded":
            self.core.metrics.define(worker.definitions)
            if self._stopping.is_set():
                worker.send("drain")  # it was not there yet when the others were told
        if kind in {"loaded", "taken", "drained", "end"}:
            self._settle_taken()
        if kind == "requests" and worker.requests is not None:
            self._control.feed.take(worker.requests)
        if kind == "ready":
            if self._control.feed.is_watched:
                worker.send("watch", _ON)
            log.event("worker_ready", worker=worker.number, pid=worker.pid)
            self._changed.set()
        self._reports.take_in(worker)

    def _settle_taken(self) -> None:
        """Let in who has what all others have; then tell which change of the vault is in force everywhere."""
        own = 0 if self.core.vault is None else self.core.vault.snapshot.sequence
        mark = self._reports.settle(own, self._workers.values())
        if mark is not None:
            self._on_taken(mark)

    def _watch_requests(self, on: bool) -> None:  # noqa: FBT001  # what feeds tell is one word
        for worker in self._ready():
            worker.send("watch", _ON if on else b"")

    def _ready(self) -> list[Supervised]:
        return [worker for worker in self._workers.values() if worker.state == "ready"]

    def readiness(self) -> Readiness:
        """All workers answer requests, and they and this process have read the vault of late."""
        ready = self._ready()
        checks = {
            **self.core.checks(),
            "data_plane": "ok" if len(ready) == self._of else f"{len(ready)} of {self._of} workers ready",
        }
        for worker in ready:
            checks.update({name: state for name, state in worker.checks.items() if state != "ok"})
        if self._stopping.is_set():
            checks["data_plane"] = "draining"
        return Readiness(all(state == "ok" for state in checks.values()), checks)

    # --- reload and end ---------------------------------------------------------------------------------

    async def reload(self, prepared: Prepared) -> tuple[str, ...]:
        """Take over new settings in every process or in none; the sections that count only after a restart.

        Raises:
            ConfigurationError: a worker cannot use them.
            StateError: a worker did not answer.
        """
        asked = self._ready()
        body = packed(InForce(prepared.settings, prepared.catalog))
        answers = await asyncio.gather(
            *(one.ask("prepare", body, answer="prepared", patience_s=_PREPARE_S) for one in asked),
            return_exceptions=True,
        )
        for worker, answer in zip(asked, answers, strict=True):
            if isinstance(answer, TimeoutError):
                raise StateError(f"worker {worker.number} has not answered within {_PREPARE_S:g} s")
            if isinstance(answer, Mapping) and answer["faults"]:
                raise ConfigurationError(Fault(f"worker {worker.number}", answer["faults"]))
        waiting = self.core.reload(prepared)
        for worker in tuple(self._workers.values()):
            if worker not in asked:
                worker.is_outdated = True  # it has begun with the earlier settings; the next one will not
                worker.kill()
        await asyncio.gather(*(self._commit(worker) for worker in asked))
        return waiting

    async def _commit(self, worker: Supervised) -> None:
        try:
            await worker.ask("commit", b"", answer="committed", patience_s=_COMMIT_S)
        except TimeoutError:
            log.event("worker_hangs", level="error", worker=worker.number, pid=worker.pid)
            worker.kill()
        except WorkerLostError:
            return  # the one that takes its place begins with the new settings

    async def drain(self, seconds: float) -> bool:
        """Stop accepting and let requests in flight end; True when all did within ``seconds`` (R70)."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.send("drain")
        for one in (*self.sockets.data, *self.sockets.tls, *(one for _, one in self.sockets.own)):
            one.close()  # the last holder of a socket refuses what comes
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=seconds + LAST_WORK_S)
        left = tuple(self._workers.values())
        self.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        return self._clean and not left

    def kill(self) -> None:
        """End every worker at once."""
        for worker in self._workers.values():
            worker.kill()

    async def close(self) -> None:
        """End everything that is left."""
        self._stopping.set()
        self.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self.core.end_tasks()
        await self._control.close()
        await self.core.close()


@asynccontextmanager
async def opened(
    settings: Settings,
    catalog: Catalog,
    *,
    workers: int,
    log_lock: int,
    on_taken: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Supervisor]:
    """The supervisor on bound sockets, without workers yet; everything is let go at the end.

    Raises:
        ConfigurationError, StateError: what the operator has to change; nothing stays open then.
    """
    async with AsyncExitStack() as stack:
        vault: Vault | None
        sockets, vault = await ground(stack, settings, catalog)
        listeners.tls_context(settings)  # each worker makes its own: what is wrong with it is told once
        core = Core(settings, catalog, listeners.dials(sockets.all), vault)
        running = Supervisor(core, sockets, workers=workers, log_lock=log_lock, on_taken=on_taken)
        stack.push_async_callback(running.close)
        yield running
