"""A server's life: what it refuses to start with, its signals, its end (R70, R159, R160)."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import NoReturn, Protocol

import uvloop

from proxy import __version__, app, firstrun, log, supervisor
from proxy.assembly.inforce import catalog_of
from proxy.assembly.vaults import needs_vault
from proxy.catalog.model import Catalog
from proxy.connectors.folder import prepare_folder
from proxy.core import Core, Prepared
from proxy.errors import ConfigurationError, StateError
from proxy.forwarding.server import require_c_parser
from proxy.instance import InstanceLock, announce, withdraw
from proxy.listeners import Sockets, signs_itself
from proxy.runtime import settle_interpreter, settle_process
from proxy.settings import Settings
from proxy.sharedlog import SharedStream, make_lock
from proxy.threads import in_daemon

FORCED = 1
_ONE_SIGNAL_S = 0.3  # timeout(1) and some supervisors signal both the process and its group
_STOP = (signal.SIGTERM, signal.SIGINT)


def require_environment() -> None:
    """Refuse what the program must not run on.

    Raises:
        StateError: saying what to do.
    """
    if sys.flags.optimize:
        raise StateError(
            "Python runs with -O or PYTHONOPTIMIZE, which takes checks out of libraries: start without"
        )
    try:
        require_c_parser()
    except RuntimeError as error:
        raise StateError(str(error)) from error


def _ignore(_: int) -> None:
    """Nobody asks what was taken from a vault where there is none."""


class Running(Protocol):
    """A server as its life needs it: :class:`~proxy.Running`, or a ``Supervisor`` of several processes."""

    core: Core
    sockets: Sockets

    async def start(self) -> None:
        """Accept connections from now on."""

    async def reload(self, prepared: Prepared) -> tuple[str, ...]:
        """Take over new settings, all or nothing; the sections that count only after a restart."""
        ...

    async def drain(self, seconds: float) -> bool:
        """Stop accepting and let requests in flight end; True when all did."""
        ...

    def kill(self) -> None:
        """End other processes at once."""


Opener = Callable[[Settings, Catalog, Callable[[int], None]], AbstractAsyncContextManager[Running]]


class Server:
    """One run of ``serve``.

    Args:
        settings: of the start.
        load: gives the settings anew, for SIGHUP.
        opener: opens what is to run; its last argument is told each change of the vault that is in force.
        folder_given: the operator named the data folder, so it is used even where nothing must be stored.
        on_ready: told once, with the running app.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        opener: Opener,
        *,
        folder_given: bool = False,
        on_ready: Callable[[Running], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._opener = opener
        self._folder_given = folder_given
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._stop_asked_at = 0.0
        self._running: Running | None = None
        self._announced: Path | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_wanted = False

    async def run(self) -> int:
        """Serve until a signal; the exit status.

        Raises:
            ConfigurationError, StateError: it could not start.
        """
        self._handle_signals()
        settle_process()
        async with AsyncExitStack() as stack:
            catalog = catalog_of(self._settings)
            keeps = needs_vault(self._settings, catalog) or signs_itself(self._settings)
            lock = self._locked(stack, needed=keeps)
            folder = None if lock is None else lock.folder
            running = await stack.enter_async_context(
                self._opener(self._settings, catalog, _ignore if lock is None else lock.took)
            )
            stack.push_async_callback(self._end_reload)
            base = firstrun.base_url(running.sockets)
            bound = running.sockets.addresses()
            public_url = self._settings.control.origin(bound["control"])
            await firstrun.make_first_key(
                running.core, folder, base=base, control=public_url, folder_given=self._folder_given
            )
            self._running = running
            await running.start()
            if folder is not None:
                stack.callback(withdraw, folder)
                self._announced = folder
                announce(folder, {**bound, "public_url": public_url})
            self._tell_ready(running, folder)
            settle_interpreter()
            self._on_ready(running)
            await self._stop.wait()
            return await self._drain(running)

    def stop(self) -> None:
        """Begin to end, as SIGTERM does."""
        self._stop.set()

    def _locked(self, stack: AsyncExitStack, *, needed: bool) -> InstanceLock | None:
        """The data folder's lock, the folder being made; None where nothing has to be kept."""
        folder = self._settings.storage.data_dir
        if not needed and not self._folder_given:
            return None
        try:
            for notice in prepare_folder(folder):
                log.event("data_folder_notice", level="warning", notice=notice)
            return stack.enter_context(InstanceLock(folder))
        except StateError as error:
            if needed:
                raise
            log.event("data_folder_unused", reason=str(error))
            return None

    def _tell_ready(self, running: Running, folder: Path | None) -> None:
        egress, bound = self._settings.egress, running.sockets.addresses()
        if egress.connect_to:
            log.event(
                "egress_redirected",
                level="warning",
                connect_to={k: str(v) for k, v in egress.connect_to.items()},
            )
        if egress.ca_file is not None:
            log.event("egress_extra_roots", level="warning", ca_file=str(egress.ca_file))
        log.event(
            "ready",
            version=__version__,
            pid=os.getpid(),
            data=bound["data"],
            tls=bound["tls"],
            control=bound["control"],
            services=len(running.core.catalog.services),
            keys=len(running.core.keys),
            data_folder=None if folder is None else str(folder),
        )

    # --- signals ----------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOP:
            loop.add_signal_handler(number, self._asked_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)

    def _asked_to_stop(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if self._stop.is_set():
            if now - self._stop_asked_at < _ONE_SIGNAL_S:
                return
            log.event("forced_stop", level="warning", signal=signal.Signals(number).name)
            self._force()
        log.event("stopping", signal=signal.Signals(number).name, drain_s=self._settings.data.drain_s)
        self._stop_asked_at = now
        self._stop.set()

    def _force(self) -> NoReturn:
        """A second signal: nothing is waited for. What is committed is safe, the lock goes with us."""
        if self._announced is not None:  # another server may own the folder that the settings name
            withdraw(self._announced)
        if self._running is not None:
            self._running.kill()
        sys.stderr.flush()
        os._exit(FORCED)

    def _asked_to_reload(self) -> None:
        if self._running is None:
            return  # still starting: the settings are as new as they can be
        self._reload_wanted = True  # also during a reload, which may have read the files before they changed
        if self._reloading is None or self._reloading.done():
            loop = asyncio.get_running_loop()
            self._reloading = loop.create_task(self._reload(self._running), name="reload")

    async def _reload(self, running: Running) -> None:
        while self._reload_wanted:
            self._reload_wanted = False
            try:
                # reading takes files and maybe commands; only the exchange happens on the loop
                prepared = await in_daemon(lambda: running.core.prepare(self._load()), name="reload")
                waiting = await running.reload(prepared)
            except (ConfigurationError, StateError) as error:
                log.event("reload_refused", level="error", reason=str(error))
            except Exception as error:  # noqa: BLE001  # a fault of ours must not end the server, nor later reloads
                log.crash("reload_failed", error)
            else:
                services = len(running.core.catalog.services)
                log.event("reloaded", services=services, after_restart=list(waiting))

    async def _end_reload(self) -> None:
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.gather(self._reloading, return_exceptions=True)

    async def _drain(self, running: Running) -> int:
        clean = await running.drain(self._settings.data.drain_s)
        if not clean:
            log.event("drain_cut", level="warning", drain_s=self._settings.data.drain_s)
        log.event("stopped", clean=clean)
        return 0


def run(settings: Settings, load: Callable[[], Settings], *, folder_given: bool, workers: int = 1) -> int:
    """Serve until a signal, from this process or with so many workers; the exit status.

    Raises:
        ConfigurationError, StateError: it could not start.
    """
    require_environment()
    opener = _alone(settings) if workers == 1 else _with_workers(settings, workers)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Server(settings, load, opener, folder_given=folder_given).run())


def _alone(settings: Settings) -> Opener:
    output = log.configure(settings.log.format, settings.log.level)
    return lambda given, catalog, on_taken: app.opened(given, catalog, output, on_taken)


def _with_workers(settings: Settings, workers: int) -> Opener:
    lock = make_lock()
    log.configure(settings.log.format, settings.log.level, SharedStream(sys.stderr, lock))
    return lambda given, catalog, on_taken: supervisor.opened(
        given, catalog, workers=workers, log_lock=lock, on_taken=on_taken
    )
