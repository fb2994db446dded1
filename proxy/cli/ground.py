"""What operations stand on in a command: the settings, the vault it opened, and the way to providers."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from proxy import instance
from proxy.assembly.providers import declared_registrations, token_endpoint
from proxy.catalog.model import Catalog
from proxy.connecting import connecting_of
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.vault import Vault
from proxy.forwarding.egress import Dialer
from proxy.operations.operation import Ground, Parts
from proxy.settings import Settings


def public_url_of(settings: Settings) -> str:
    """Where browsers reach the control plane: as the running server says, else as the settings do."""
    told = instance.running(settings.storage.data_dir) or {}
    return str(told.get("public_url") or settings.control.origin())


@asynccontextmanager
async def opened_ground(
    settings: Settings, vault: Vault | None, catalog: Catalog
) -> AsyncIterator[Callable[[], Ground]]:
    """The ground; what leads to providers is made when it is first needed, and let go of at the end."""
    async with AsyncExitStack() as stack:
        made: list[Parts] = []

        def parts(held: Vault) -> Parts:
            if not made:
                dialer = Dialer(settings.egress.policy(()), time.monotonic)
                stack.push_async_callback(dialer.aclose)
                known = Registrations(declared_registrations(settings, catalog), held)
                connecting = connecting_of(
                    settings, lambda: catalog, held, known, dialer, public_url=public_url_of(settings)
                )
                made.append(Parts(known, connecting, token_endpoint(dialer)))
            return made[0]

        yield lambda: Ground(settings, catalog, vault, parts, time.time())
