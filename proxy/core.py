"""What every process of a server has, whichever side it runs: settings, services, vault, token sources."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, get_args

from proxy import log, problems
from proxy.assembly.credentials import sources_of, vault_source
from proxy.assembly.inforce import catalog_of, check_names, declared_keys
from proxy.assembly.providers import declared_registrations, refresher_of
from proxy.assembly.vaults import needs_vault
from proxy.catalog.model import Catalog
from proxy.connectors.module import Connectors
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.refresh.events import RefreshEvent
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.rowseals import Refused
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.following import VaultFollower
from proxy.forwarding.addresses import Dial, Reason
from proxy.forwarding.egress import Denied, Dialer
from proxy.keys import KeyRecord
from proxy.metrics import Metrics
from proxy.restarts import kept
from proxy.settings import Settings

RETIRE_S = 60.0  # longer than any fetch that a replaced source may still be at
_RELOADED = frozenset({"services", "sources", "keys", "base44", "registrations"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """What new settings come to; nothing in it is open yet, so it may be dropped."""

    settings: Settings
    catalog: Catalog
    declared: Mapping[str, KeyRecord]
    connectors: Connectors
    registrations: Mapping[str, Registration]


def _tell_refused(found: Refused) -> None:
    log.event("vault_row_refused", level="error", table=found.table, row=found.row, why=found.why)


class Core:
    """The ground that :class:`~proxy.dataside.DataSide` and :class:`~proxy.controlside.ControlSide` share.

    Args:
        settings: of the start; catalog: the services in force.
        own: where the server listens, so that it never calls itself.
        vault: None where no service and no key needs one.

    ``on_change`` is called whenever keys, services or sources may have changed, ``on_reload`` after each
    reload besides, ``on_taken`` with the number of each change of the vault that is in force here from now
    on. ``take_uses`` and ``take_account_uses`` give the uses of keys and connections noted since
    they were last asked.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, own: Iterable[Dial], vault: Vault | None
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.vault = vault
        self.metrics = Metrics(catalog.services, problems.CODES, get_args(Reason))
        self.dialer = Dialer(settings.egress.policy(tuple(own)), time.monotonic, on_denied=self._denied)
        self.declared: Mapping[str, KeyRecord] = declared_keys(settings)
        self.on_refresh: Callable[[RefreshEvent], None] = _nothing
        self.registrations: Registrations | None = None
        self.refresher: Refresher | None = None
        if vault is not None:
            self.registrations = Registrations(declared_registrations(settings, catalog), vault)
            self.refresher = refresher_of(
                settings, catalog, vault, self.registrations, dialer=self.dialer, on_event=self._refreshed
            )
        self.connectors = self._connectors_of(settings, catalog)
        self.on_change: Callable[[], None] = _nothing
        self.on_reload: Callable[[], None] = _nothing
        self.on_taken: Callable[[int], None] = _nothing
        self.take_uses: Callable[[], Mapping[str, float]] = dict
        self.take_account_uses: Callable[[], Mapping[str, float]] = dict
        self.follower: VaultFollower | None = None
        if vault is not None:
            vault.tell_refused(_tell_refused)
            self.follower = VaultFollower(
                vault,
                on_change=self._vault_changed,
                take_uses=self._all_uses,
                observed=self.metrics.observed_refusals,
                key_calls=partial(self.metrics.counted, "key_calls"),
            )
        self._uses: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.metrics.gauge("keys", "Proxy keys known", lambda: len(self.keys), shared=True)

    def _connectors_of(self, settings: Settings, catalog: Catalog) -> Connectors:
        return Connectors(
            catalog,
            sources_of(settings, catalog, self.dialer),
            vault_source(self.vault, catalog, self.refresher),
        )

    def _refreshed(self, event: RefreshEvent) -> None:
        told = asdict(event)
        told.pop("connection_id")
        is_well = event.outcome in {"refreshed", "saved_late"} and not event.flags
        log.event("refresh", level="info" if is_well else "warning", **told)
        self.metrics.refreshed(event.service, event.outcome)
        self.on_refresh(event)

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

    def start(self) -> None:
        """Follow the vault from now on."""
        self._vault_changed()
        if self.follower is not None:
            self.keep(self.follower.follow, "vault")

    def go(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background until it ends or the server closes; a failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def keep(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run endless work likewise; after a failure it begins anew."""
        self.go(kept(work, name), name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.crash("background_task_failed", error, task=task.get_name())

    async def end_tasks(self) -> None:
        """Cancel everything that :meth:`go` started."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Let go of sources and connections; the vault belongs to whoever opened it."""
        await self.end_tasks()
        if self.refresher is not None:
            await self.refresher.close()
        await self.connectors.close()
        await self.dialer.aclose()

    def checks(self) -> Mapping[str, str]:
        """For readiness: whether the vault was read of late (R153)."""
        if self.follower is None:
            return {}
        return {"vault": "unreadable" if self.follower.is_late else "ok"}

    # --- keys -------------------------------------------------------------------------------------------

    @property
    def keys(self) -> Mapping[str, KeyRecord]:
        """The keys that the vault and the settings have now, by id."""
        stored = {} if self.follower is None else self.follower.keys
        return {**stored, **self.declared}

    def note_use(self, key_id: str, when: float) -> None:
        """Remember that a key was used on the control plane (seconds since the epoch)."""
        self._uses[key_id] = when

    def _all_uses(self) -> Mapping[str, float]:
        own, self._uses = self._uses, {}
        return {**self.take_uses(), **own}

    def _vault_changed(self) -> None:
        self.on_change()
        if self.vault is not None:
            self.on_taken(self.vault.snapshot.sequence)

    # --- reload -----------------------------------------------------------------------------------------

    def prepare(self, settings: Settings, catalog: Catalog | None = None) -> Prepared:
        """Read everything that :meth:`reload` takes over; for any thread, as commands may run for a while.

        Args:
            settings: the new ones.
            catalog: their services; read from the files when None.

        Raises:
            ConfigurationError: with every fault.
        """
        catalog = catalog_of(settings) if catalog is None else catalog
        check_names(settings, catalog)
        declared = declared_keys(settings)
        if self.vault is None and needs_vault(settings, catalog):
            raise ConfigurationError(
                Fault("sources", "a service or key needs the vault now, which only a start opens: restart")
            )
        registrations = declared_registrations(settings, catalog)
        return Prepared(settings, catalog, declared, self._connectors_of(settings, catalog), registrations)

    def reload(self, prepared: Prepared) -> tuple[str, ...]:
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
        retired, self.connectors = self.connectors, prepared.connectors
        self.catalog, self.declared = prepared.catalog, prepared.declared
        if self.refresher is not None and self.registrations is not None:
            self.refresher.catalog = prepared.catalog
            self.registrations.declared = prepared.registrations
        self.settings = replace(
            self.settings, **{name: getattr(prepared.settings, name) for name in _RELOADED}
        )
        self.metrics.set_services(prepared.catalog.services)
        self.on_change()
        self.on_reload()
        self.go(_retire(retired), "replaced sources")
        return waiting


def _nothing(*_: object) -> None:
    """What is told to nobody."""


async def _retire(connectors: Connectors) -> None:
    try:
        await asyncio.sleep(RETIRE_S)
    finally:
        await connectors.close()
