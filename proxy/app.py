"""The composition root: from settings to running servers. ``lifecycle`` starts, reloads and stops it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from typing import get_args

from aiohttp import web
from yarl import URL

from proxy import assembly, listeners, log, problems
from proxy.catalog.model import Catalog
from proxy.connectors.module import Connectors
from proxy.connectors.vault import Vault
from proxy.control.health import Readiness, make_control_app
from proxy.control.listener import ControlRunner
from proxy.errors import ConfigurationError, Fault
from proxy.following import VaultFollower
from proxy.forwarding.addresses import Reason
from proxy.forwarding.egress import Denied, Dialer
from proxy.forwarding.gate import Limits as HeadLimits
from proxy.forwarding.handler import DataPlane, key_uses
from proxy.forwarding.keys import KeyRing
from proxy.forwarding.limits import DataPlaneOptions, ServerLimits
from proxy.forwarding.pool import Pool, UpstreamTimeouts
from proxy.forwarding.server import DataServer
from proxy.keys import KeyRecord
from proxy.metrics import Metrics
from proxy.settings import Settings

RETIRE_S = 60.0  # longer than any fetch that a replaced source may still be at
_RELOADED = frozenset({"services", "sources", "keys", "base44", "registrations"})


class App:
    """Everything that serves; made by :func:`opened`.

    ``vault`` is None where no service and no key needs one. ``plane`` is the data plane. ``on_taken`` is told
    the number of each change of the vault that callers meet from now on.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        sockets: listeners.Sockets,
        vault: Vault | None,
        events: log.EventWriter,
        *,
        on_taken: Callable[[int], None],
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.sockets = sockets
        self.vault = vault
        self.metrics = Metrics(catalog.services, problems.CODES, get_args(Reason))
        self.dialer = Dialer(
            settings.egress.policy(listeners.dials(sockets.all)), time.monotonic, on_denied=self._denied
        )
        times = settings.timeouts
        self.pool = Pool(
            self.dialer,
            UpstreamTimeouts(times.connect, times.first_byte, times.idle, times.total),
            time.monotonic,
            self.metrics.upstream,
        )
        self._declared: Mapping[str, KeyRecord] = assembly.declared_keys(settings)
        self._connectors = self._connectors_of(settings, catalog)
        self.plane = DataPlane(
            catalog=catalog,
            connectors=self._connectors,
            pool=self.pool,
            metrics=self.metrics,
            events=events,
            options=_options(settings),
        )
        self.server = DataServer(self.plane.answer, self.plane.refuse, _server_limits(settings))
        self.control = ControlRunner(
            make_control_app(
                ready=self.readiness, metrics=self.metrics, allowed_hosts=_control_hosts(settings)
            ),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
        )
        self._tls = listeners.tls_context(settings)
        self._loops: list[asyncio.AbstractServer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._follower = None
        if vault is not None:
            self._follower = VaultFollower(vault, on_change=self._vault_changed, take_uses=self._vault_uses)
        self._on_taken = on_taken
        self._vault_changed()
        self._count_things(events)

    def _connectors_of(self, settings: Settings, catalog: Catalog) -> Connectors:
        return Connectors(
            catalog,
            assembly.sources_of(settings, catalog, self.dialer),
            assembly.vault_source(self.vault, catalog),
        )

    def _count_things(self, events: log.EventWriter) -> None:
        self.metrics.gauge("caller_connections", "Open connections from callers", lambda: self.server.callers)
        self.metrics.gauge(
            "upstream_open_connections", "Open connections to services", lambda: self.pool.open_connections
        )
        self.metrics.gauge("keys", "Proxy keys known", lambda: len(self.plane.keyring))
        self.metrics.counter("log_events_dropped", "Request events not written", lambda: events.dropped)

    def _denied(self, denied: Denied) -> None:
        for _, reason in denied.addresses:
            self.metrics.denied(reason)
        log.event(
            "address_denied",
            level="warning",
            host=denied.host,
            port=denied.port,
            addresses=[f"{address} ({reason})" for address, reason in denied.addresses],
        )

    # --- running ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Accept connections from now on."""
        self.pool.start()
        self.server.start()
        await self.control.setup()
        for one in self.sockets.control:
            await web.SockSite(self.control, one).start()
        for one in self.sockets.data:
            self._loops.append(await listeners.serve(self.server, one, None))
        for service, one in self.sockets.own:
            self._loops.append(await listeners.serve(self.server.for_service(service), one, None))
        for one in self.sockets.tls:
            self._loops.append(await listeners.serve(self.server, one, self._tls))
        if self._follower is not None:
            self._go(self._follower.follow(), "vault")
            self._go(self._follower.note_uses(), "key uses")
            self._go(self._follower.prune(), "audit")

    def _go(self, work: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]  # a coroutine
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.crash("background_task_failed", error, task=task.get_name())

    async def drain(self, seconds: float) -> bool:
        """Stop accepting and let requests in flight end; True when all did within ``seconds`` (R70)."""
        self.plane.draining = True
        for loop_server in self._loops:
            loop_server.close()
        return await self.server.drain(seconds)

    async def close(self) -> None:
        """End everything that is left. Uses of keys that were not written yet are written."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.control.cleanup()
        await self.pool.close()
        await self._connectors.close()
        await self.dialer.aclose()
        if self._follower is not None:
            await self._follower.write_uses()

    def readiness(self) -> Readiness:
        """Whether requests can be answered: not draining, and the vault was read of late (R153)."""
        checks = {"data_plane": "draining" if self.plane.draining else "ok"}
        if self._follower is not None:
            checks["vault"] = "unreadable" if self._follower.is_late else "ok"
        return Readiness(all(state == "ok" for state in checks.values()), checks)

    # --- keys -------------------------------------------------------------------------------------------

    def keys_changed(self) -> None:
        """Put the keys in force that the vault and the settings have now."""
        stored = {} if self._follower is None else self._follower.keys
        self.plane.keyring = KeyRing({**stored, **self._declared})
        for fault in self.plane.keyring.faults:
            log.event("permit_ignored", level="warning", place=fault.place, reason=fault.message)

    def _vault_changed(self) -> None:
        self.keys_changed()
        if self.vault is not None:
            self._on_taken(self.vault.snapshot.sequence)

    def _vault_uses(self) -> Mapping[str, float]:
        return {key: when for key, when in key_uses(self.plane).items() if key not in self._declared}

    # --- reload -----------------------------------------------------------------------------------------

    def prepare(self, settings: Settings) -> "Prepared":
        """Read everything that :meth:`reload` takes over; for any thread, as commands may run for a while.

        Raises:
            ConfigurationError: with every fault.
        """
        catalog = assembly.catalog_of(settings)
        assembly.check_followed(settings)
        assembly.check_names(settings, catalog)
        declared = assembly.declared_keys(settings)
        if self.vault is None and assembly.needs_vault(settings, catalog):
            raise ConfigurationError(
                Fault("sources", "a service or key needs the vault now, which only a start opens: restart")
            )
        return Prepared(settings, catalog, declared, self._connectors_of(settings, catalog))

    def reload(self, prepared: "Prepared") -> tuple[str, ...]:
        """Take over services, sources and keys of new settings at once; no connection drops (R160).

        Returns:
            the sections that have changed and count only after a restart.
        """
        waiting = tuple(
            one.name
            for one in fields(Settings)
            if one.name not in _RELOADED
            and getattr(prepared.settings, one.name) != getattr(self.settings, one.name)
        )
        retired, self._connectors = self._connectors, prepared.connectors
        self.catalog, self._declared = prepared.catalog, prepared.declared
        self.metrics.set_services(prepared.catalog.services)
        self.plane.catalog, self.plane.connectors = prepared.catalog, prepared.connectors
        self.keys_changed()
        self._go(_retire(retired), "replaced sources")
        return waiting


@dataclass(frozen=True, slots=True)
class Prepared:
    """What new settings come to; nothing in it is open yet, so it may be dropped."""

    settings: Settings
    catalog: Catalog
    declared: Mapping[str, KeyRecord]
    connectors: Connectors


async def _retire(connectors: Connectors) -> None:
    try:
        await asyncio.sleep(RETIRE_S)
    finally:
        await connectors.close()


def _control_hosts(settings: Settings) -> tuple[str, ...]:
    public = URL(settings.control.public_url).raw_host
    return (*settings.control.allowed_hosts, *((public,) if public else ()))


def _options(settings: Settings) -> DataPlaneOptions:
    limits = settings.limits
    return DataPlaneOptions(
        limits=HeadLimits(limits.request_line, limits.header_bytes, limits.headers),
        body_bytes=limits.body_bytes,
        body_idle_s=settings.timeouts.body_idle,
        upstream_per_service=limits.upstream_per_service,
        host_suffixes=tuple(suffix.lower().strip(".") for suffix in settings.data.host_suffixes),
        fallback=settings.data.fallback,
    )


def _server_limits(settings: Settings) -> ServerLimits:
    limits, times = settings.limits, settings.timeouts
    return ServerLimits(
        connections=limits.connections,
        request_line=limits.request_line,
        header_bytes=limits.header_bytes,
        headers=limits.headers,
        head_s=times.head,
        body_idle_s=times.body_idle,
        keep_alive_s=times.keep_alive,
    )


@asynccontextmanager
async def opened(
    settings: Settings, catalog: Catalog, output: log.Output, on_taken: Callable[[int], None] = lambda _: None
) -> AsyncIterator[App]:
    """The app on bound sockets, not yet accepting; everything is let go at the end.

    Raises:
        ConfigurationError, StateError: what the operator has to change; nothing stays open then.
    """
    async with AsyncExitStack() as stack:
        assembly.check_followed(settings)
        assembly.check_names(settings, catalog)
        for warning in catalog.warnings:
            log.event("catalog_warning", level="warning", place=warning.place, reason=warning.message)
        sockets = stack.enter_context(listeners.bound(settings))
        vault = None
        if assembly.needs_vault(settings, catalog):
            vault = await assembly.open_vault(settings, catalog)
            stack.push_async_callback(vault.close)
            for notice in vault.notices:
                log.event("vault_notice", level="warning", notice=notice)
        events = stack.enter_context(log.EventWriter(output))
        app = App(settings, catalog, sockets, vault, events, on_taken=on_taken)
        stack.push_async_callback(app.close)
        yield app
