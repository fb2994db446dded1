"""Services by hand, a clock to be turned, and an open vault, for tests of the connectors module."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.catalog.model import Auth, Catalog, Host, Param, Scheme, Service
from proxy.catalog.origin import OriginTemplate
from proxy.connectors.masterkey import GivenKey, KeyFile, MasterKeySource
from proxy.connectors.model import Tokens
from proxy.connectors.vault import Vault
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret

MASTER = Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
OTHER_MASTER = Secret("BAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
NOW = 1_800_000_000.0
CANARY = "canary-8d1f-access"
REFRESH = "canary-8d1f-refresh"


class Clock:
    """Seconds since the epoch, moved by the test."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def service(type_id: str, *, scheme: Scheme = "bearer", params: tuple[Param, ...] = ()) -> Service:
    """A service with one host."""
    return Service(
        type_id=type_id,
        title=type_id.capitalize(),
        docs="",
        console="",
        verified="memory",
        hosts=(Host("api", OriginTemplate(f"https://{type_id.replace('_', '-')}.example")),),
        source_file=f"{type_id}.toml",
        auth=Auth(scheme),
        params={param.name: param for param in params},
    )


def tokens_of(
    access: str = CANARY, refresh: str | None = REFRESH, expires_at: float | None = NOW + 3600
) -> Tokens:
    """Tokens that live for an hour, unless told otherwise."""
    return Tokens(Secret(access), None if refresh is None else Secret(refresh), expires_at)


def key_record(name: str = "backend") -> tuple[KeyRecord, Secret]:
    """A new key, and what the vault keeps of it."""
    key_id, key = generate()
    return KeyRecord(
        key_id, name, digest(key.reveal().encode()), ("slack", "notion:GET"), created_at=NOW
    ), key


TENANT = Param("subdomain", r"[a-z0-9-]+", required=True, example="acme", lower=True)
CATALOG = Catalog(
    {one.type_id: one for one in (service("slack"), service("notion"), service("tenant", params=(TENANT,)))}
)


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    key: MasterKeySource | None = None,
    clock: Callable[[], float] | None = None,
    catalog: Catalog = CATALOG,
) -> AsyncIterator[Vault]:
    """A vault, closed afterwards."""
    vault = await Vault.open(folder, key or GivenKey(MASTER), catalog=catalog, clock=clock or Clock())
    try:
        yield vault
    finally:
        await vault.close()


def key_file(folder: Path) -> KeyFile:
    """The default place of the master key."""
    return KeyFile(folder / "master.key")
