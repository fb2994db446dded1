"""The composition root: from settings to a running server. ``lifecycle`` starts, reloads and stops it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from proxy import accesslog, listeners, log, tracing
from proxy.assembly.inforce import check_names
from proxy.assembly.vaults import needs_vault, open_vault
from proxy.catalog.model import Catalog
from proxy.connectors.vault import Vault
from proxy.control.health import Readiness
from proxy.controlside import ControlSide
from proxy.core import Core, Prepared
from proxy.dataside import DataSide
from proxy.settings import Settings


class App:
    """Both sides in one process; made by :func:`opened`."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        sockets: listeners.Sockets,
        vault: Vault | None,
        events: accesslog.EventWriter,
    ) -> None:
        self.sockets = sockets
        self.core = Core(settings, catalog, listeners.dials(sockets.all), vault)
        self.data = DataSide(self.core, sockets, events, connect_url=connect_url(self.core, sockets))
        self.control = ControlSide(self.core, sockets, self.readiness)
        self.control.take_budgets = self.data.take_budgets
        self.control.feed.on_watch = lambda on: self.data.watch(self.control.feed.take if on else None)

    async def start(self) -> None:
        """Accept connections from now on."""
        self.core.start()
        await self.control.start()
        await self.data.start()

    async def reload(self, prepared: Prepared) -> tuple[str, ...]:
        """Take over new settings; the sections of them that count only after a restart."""
        return self.core.reload(prepared)

    async def drain(self, seconds: float) -> bool:
        """Stop accepting and let requests in flight end; True when all did within ``seconds`` (R70)."""
        return await self.data.drain(seconds)

    def kill(self) -> None:
        """Nothing: there is no other process."""

    async def close(self) -> None:
        """End everything that is left."""
        await self.core.end_tasks()
        await self.control.close()
        await self.data.close()
        await self.core.close()

    def readiness(self) -> Readiness:
        """Whether requests can be answered."""
        checks = {**self.data.checks(), **self.core.checks()}
        return Readiness(all(state == "ok" for state in checks.values()), checks)


def connect_url(core: Core, sockets: listeners.Sockets) -> str | None:
    """Where people connect accounts; None where there is no vault to keep them in."""
    return None if core.vault is None else core.settings.control.origin(listeners.texts(sockets.control))


@asynccontextmanager
async def opened(
    settings: Settings, catalog: Catalog, output: log.Output, on_taken: Callable[[int], None] = lambda _: None
) -> AsyncIterator[App]:
    """The app on bound sockets, not yet accepting; everything is let go at the end.

    ``on_taken`` is told the number of each change of the vault that callers meet from now on.

    Raises:
        ConfigurationError, StateError: what the operator has to change; nothing stays open then.
    """
    async with AsyncExitStack() as stack:
        sockets, vault = await ground(stack, settings, catalog)
        events = stack.enter_context(accesslog.EventWriter(output))
        app = App(settings, catalog, sockets, vault, events)
        app.core.on_taken = on_taken
        stack.push_async_callback(app.close)
        yield app


async def ground(
    stack: AsyncExitStack, settings: Settings, catalog: Catalog
) -> tuple[listeners.Sockets, Vault | None]:
    """What a server stands on, checked: its sockets, and its vault where it needs one; ``stack`` ends them.

    Raises:
        ConfigurationError, StateError: what the operator has to change.
    """
    check_names(settings, catalog)
    tracing.check(settings)
    for warning in catalog.warnings:
        log.event("catalog_warning", level="warning", place=warning.place, reason=warning.message)
    sockets = stack.enter_context(listeners.bound(settings))
    if not needs_vault(settings, catalog):
        return sockets, None
    vault = await open_vault(settings, catalog)
    stack.push_async_callback(vault.close)
    for notice in vault.notices:
        log.event("vault_notice", level="warning", notice=notice)
    return sockets, vault
