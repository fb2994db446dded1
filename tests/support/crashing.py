"""A process that ends by kill -9 at a named point of a refresh. Run by test_refresh_crash.py.

Points: ``claimed`` (the intent is committed, nothing sent), ``answered`` (the answer is read, nothing saved),
``saving`` (inside the transaction that saves), ``saved`` (committed, nobody was served).
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

sys.path.append(str(Path(__file__).parents[2]))

from proxy.connectors.masterkey import GivenKey
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.postgres import PostgresStore
from proxy.connectors.refresh import settlement
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.sources.vault import VaultSource
from proxy.connectors.sqlite import SqliteStore
from proxy.connectors.store import Store
from proxy.connectors.vault import Vault
from proxy.secret import Secret
from support.providers.scripted import Scripted
from support.refreshing import APP, catalog_of
from support.vaults import MASTER, Clock


def die(*_: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying(TokenEndpoint):
    """Ends the process before or after the exchange."""

    point = ""

    async def ask(self, *given: Any) -> Any:
        if self.point == "claimed":
            die()
        grant = await super().ask(*given)
        if self.point == "answered":
            die()
        return grant


class DyingSettlement(settlement.Settlement):
    """Ends the process after the commit."""

    async def save(self, *given: Any) -> Any:
        await super().save(*given)
        die()


async def _store() -> Store:
    url = os.environ.get("CONNECTOR_PROXY_DATABASE_URL")
    if url is not None:
        return await PostgresStore.open(Secret(url))
    return await SqliteStore.open(Path(os.environ["CONNECTOR_PROXY_DATA_DIR"]))


async def main(point: str, origin: str, now: float) -> None:
    provider = Scripted()
    type(provider).origin = property(lambda _self: origin)  # type: ignore[assignment,method-assign]  # one in another process
    catalog = catalog_of(provider)
    clock = Clock(now)
    vault = await Vault.over(await _store(), GivenKey(MASTER), catalog=catalog, clock=clock)
    Dying.point = point
    if point == "saving":
        settlement._tell = die
    if point == "saved":
        sys.modules["proxy.connectors.refresh.refresher"].Settlement = DyingSettlement  # type: ignore[attr-defined]  # the seam
    refresher = Refresher(
        vault,
        catalog,
        Registrations({"scripted": APP}, vault),
        Dying(lambda _url: aiohttp.TCPConnector(), clock),
        clock=clock,
        data_dir=Path(os.environ["CONNECTOR_PROXY_DATA_DIR"]),
        on_event=lambda _: None,
    )
    source = VaultSource(vault, catalog=catalog, clock=clock, refresher=refresher)
    await source.obtain("scripted", None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
