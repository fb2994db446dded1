"""A vault, a refresher and a scripted provider on real sockets, on one clock that the test turns."""

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog, Service
from proxy.connectors.model import Connection, Credential, Tokens
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.refresh.events import RefreshEvent
from proxy.connectors.refresh.journal import FOLDER
from proxy.connectors.refresh.owner import Owner
from proxy.connectors.refresh.refresher import Refresher
from proxy.connectors.sources.vault import VaultSource
from proxy.connectors.vault import Vault
from proxy.secret import Secret
from support.providers.scripted import CLIENT_ID, CLIENT_SECRET, Reply, Scripted, held
from support.stores import VaultPlace
from support.vaults import NOW, Clock

APP = Registration("scripted", "scripted", CLIENT_ID, Secret(CLIENT_SECRET))
LIFE = 3600.0


@functools.cache
def _read(text: str) -> Service:
    """The service of a catalog file; reading all shipped ones beside it takes its time."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scripted.toml").write_text(text)
        found = load_catalog(user_directory=Path(folder), enabled=("scripted",), allow_http=lambda *_: True)
    return found.services["scripted"]


def catalog_of(provider: Scripted, **oauth: Any) -> Catalog:
    """The provider as the only service, ``scripted``; ``oauth`` overrides fields of its ``[oauth]``."""
    read = _read(Scripted().service_file().replace("127.0.0.1:0", "127.0.0.1:1"))
    assert read.oauth is not None
    places = {"token_url": f"{provider.origin}/token", "revoke_url": f"{provider.origin}/revoke"}
    own = replace(read.oauth, **places, **oauth)
    return Catalog({"scripted": replace(read, oauth=own)})


@dataclass(slots=True)
class Process:
    """One process on a vault: its own view of it, its own refresher."""

    vault: Vault
    refresher: Refresher
    source: VaultSource
    registrations: Registrations
    events: list[RefreshEvent]

    @property
    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.events]

    async def token(self) -> str:
        """What a caller gets."""
        return (await self.source.obtain("scripted", None)).access_token.reveal()

    def ready(self) -> Credential | None:
        return self.source.ready("scripted", None)

    async def settled(self) -> None:
        """Until no refresh is under way here."""
        while self.refresher._tasks:
            await asyncio.wait(tuple(self.refresher._tasks.values()))
            await asyncio.sleep(0)


@dataclass(slots=True)
class Scene:
    """``first`` is the process that most tests need; :meth:`process` starts others on the same vault."""

    place: VaultPlace
    provider: Scripted
    catalog: Catalog
    clock: Clock
    steady: Clock
    first: Process = field(init=False)

    @asynccontextmanager
    async def process(
        self, *, owner: Owner | None = None, endpoint: Callable[..., TokenEndpoint] = TokenEndpoint
    ) -> AsyncIterator[Process]:
        async with self.place.opened(clock=self.clock, catalog=self.catalog) as vault:
            events: list[RefreshEvent] = []
            registrations = Registrations({"scripted": APP}, vault)
            refresher = Refresher(
                vault,
                self.catalog,
                registrations,
                endpoint(lambda _url: aiohttp.TCPConnector(), self.clock),
                clock=self.clock,
                monotonic=self.steady,
                data_dir=self.place.folder,
                on_event=events.append,
                owner=owner,
            )
            source = VaultSource(vault, catalog=self.catalog, clock=self.clock, refresher=refresher)
            try:
                yield Process(vault, refresher, source, registrations, events)
            finally:
                await refresher.close(grace_s=5.0)

    async def connect(self, number: int = 0, *, life: float = LIFE, **more: Any) -> Connection:
        """A connection as a flow would store it: ``old-N`` and ``spend-N``, of this moment."""
        now = self.clock()
        tokens = Tokens(Secret(f"old-{number}"), Secret(f"spend-{number}"), now + life, now)
        given = {"registration": "scripted", "scopes": ("read",), "asked_scopes": ("read",), **more}
        return await self.first.vault.save_connection("scripted", given.pop("name", "main"), tokens, **given)

    async def under_way(
        self,
        reply: Reply | None = None,
        *,
        asking: Callable[[Process], Coroutine[Any, Any, Any]] = Process.token,
    ) -> tuple[asyncio.Task[Any], asyncio.Event]:
        """A connection whose token has ended, a caller who waits for the next, and the request for it.

        The request is with the provider, which gives ``reply`` once the event is set.
        """
        gate = asyncio.Event()
        await self.connect()
        self.provider.answer(held(gate, reply))
        self.clock.now += LIFE
        caller = asyncio.create_task(asking(self.first))
        await self.provider.wait(1)
        return caller, gate

    def spent(self) -> list[str]:
        """The refresh tokens that were sent, in order."""
        return [request.form.get("refresh_token", "-") for request in self.provider.requests]

    def row(self, columns: str, table: str = "refreshes") -> list[str]:
        """Columns of the only row, as text."""
        return self.place.run(f"SELECT {columns} FROM {table}").strip("\n").split("|")  # noqa: S608  # our own words


@asynccontextmanager
async def scene(place: VaultPlace, **oauth: Any) -> AsyncIterator[Scene]:
    """A provider, a vault, and one process with the connection ``scripted@main`` not yet made."""
    async with Scripted().running() as provider:
        on = Scene(place, provider, catalog_of(provider, **oauth), Clock(NOW), Clock(1000.0))
        async with on.process() as first:
            on.first = first
            yield on


@contextmanager
def without(place: VaultPlace, table: str) -> Iterator[None]:
    """Statements on this table fail inside the block."""
    place.run(f"ALTER TABLE {table} RENAME TO away")
    try:
        yield
    finally:
        place.run(f"ALTER TABLE away RENAME TO {table}")


def journal(place: VaultPlace) -> list[Path]:
    """What was kept; a file that is still being written has a name with a dot before it."""
    folder = place.folder / FOLDER
    return sorted(folder.glob("[!.]*")) if folder.exists() else []


@asynccontextmanager
async def answered_without_store(on: Scene) -> AsyncIterator[None]:
    """The provider's answer arrives while the store takes nothing; inside the block it still does not."""
    caller, gate = await on.under_way()
    with without(on.place, "connections"):
        gate.set()
        assert await caller == "access-1"
        yield
