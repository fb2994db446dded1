"""The module's contract: Base44's names, shapes, argument checks and errors; asynchronous and from threads."""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType, MappingProxyType

import pytest
from support.vaults import CATALOG, NOW, Clock, opened

from proxy.connectors import module
from proxy.connectors.model import ConnectorConnection, Tokens
from proxy.connectors.module import Connectors
from proxy.connectors.sources.static import StaticSource
from proxy.connectors.sources.vault import VaultSource
from proxy.connectors.threads import SyncConnectors
from proxy.connectors.vault import Vault
from proxy.errors import (
    AmbiguousConnection,
    NotConnected,
    ReauthorizationRequired,
    RefreshFailed,
    RequestError,
    StoreError,
    UnknownService,
)
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


@asynccontextmanager
async def _connectors(folder: Path, clock: Clock | None = None) -> AsyncIterator[tuple[Connectors, Vault]]:
    clock = clock or Clock()
    async with opened(folder / "d", clock=clock) as vault:
        source = VaultSource(vault, catalog=CATALOG, clock=clock)
        static = StaticSource(CATALOG.services["notion"], Secret("secret_static"))
        connectors = Connectors(CATALOG, {"notion": static}, source)
        yield connectors, vault
        await connectors.close()


def _tokens(text: str, expires_at: float | None = None) -> Tokens:
    return Tokens(Secret(text), None, expires_at)


async def test_get_connection_gives_token_and_config(tmp_path: Path) -> None:
    """The bare token, and a string map where the service needs one (R165, R166, R180)."""
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("tenant", "work", _tokens("tok"), config={"subdomain": "acme"})
        found = await connectors.get_connection("tenant")
    assert found == ConnectorConnection("tok", {"subdomain": "acme"})
    assert type(found.connection_config) is dict


async def test_config_is_none_when_nothing_is_needed(tmp_path: Path) -> None:
    """None, not an empty map, for a service without params, from the vault and from another source (R166)."""
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp"), config={})
        assert await connectors.get_connection("slack") == ConnectorConnection("xoxp", None)
        assert await connectors.get_connection("notion") == ConnectorConnection("secret_static", None)


@pytest.mark.parametrize(
    ("argument", "error"), [("", ValueError), (None, TypeError), (7, TypeError), (b"x", TypeError)]
)
async def test_the_argument_is_checked_locally(
    tmp_path: Path, argument: object, error: type[Exception]
) -> None:
    """An empty or non-string type is refused with the contract's sentence, in both calls (R165)."""
    async with _connectors(tmp_path) as (connectors, _):
        for call in (connectors.get_connection, connectors.get_access_token):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                with pytest.raises(error, match="Integration type is required and must be a string"):
                    await call(argument)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("wrong", ["slak", "SLACK", "slack ", "slack@work", "../slack", "__proto__"])
async def test_an_unknown_type_is_told_with_the_nearest_name(tmp_path: Path, wrong: str) -> None:
    """Types are exact; a near miss is helped (R168)."""
    async with _connectors(tmp_path) as (connectors, _):
        assert connectors.ready(wrong, None) is None
        with pytest.raises(UnknownService) as caught:
            await connectors.get_connection(wrong)
    assert wrong not in {"slak", "slack "} or 'did you mean "slack"' in caught.value.detail


async def test_not_connected_names_the_connector(tmp_path: Path) -> None:
    """No account, or not under that name: typed, naming the connector and what to do (R169, R178)."""
    async with _connectors(tmp_path) as (connectors, vault):
        with pytest.raises(
            NotConnected, match=r"Slack is not connected.*connector-proxy connect slack"
        ) as caught:
            await connectors.get_connection("slack")
        assert (caught.value.service, caught.value.connection) == ("slack", None)
        await vault.save_connection("slack", "work", _tokens("xoxp"))
        with pytest.raises(NotConnected, match="no connection 'home', it has 'work'") as caught:
            await connectors.get_connection("slack", connection="home")
        assert (caught.value.service, caught.value.connection) == ("slack", "home")


async def test_named_default_and_ambiguous_connections(tmp_path: Path) -> None:
    """A name gives that account, none the default one; without a default several are ambiguous."""
    async with _connectors(tmp_path) as (connectors, vault):
        for name in ("one", "two", "three"):
            await vault.save_connection("slack", name, _tokens(f"xoxp-{name}"))
        assert (await connectors.get_connection("slack")).access_token == "xoxp-one"
        assert (await connectors.get_connection("slack", connection="two")).access_token == "xoxp-two"
        await vault.remove("slack", "one")
        with pytest.raises(AmbiguousConnection, match="'three', 'two'"):
            await connectors.get_connection("slack")
        await vault.set_default("slack", "three")
        assert (await connectors.get_connection("slack")).access_token == "xoxp-three"


async def test_a_token_serves_to_the_last_second(tmp_path: Path) -> None:
    """Without refresh a token serves until a second before its end, then a person is told how to store a new one."""
    clock = Clock()
    async with _connectors(tmp_path, clock) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp", NOW + 100))
        clock.now = NOW + 98.9
        credential = connectors.ready("slack", None)
        assert credential is not None
        clock.now = NOW + 99
        assert connectors.ready("slack", None) is None
        with pytest.raises(
            ReauthorizationRequired, match=r"has expired.*--connection work --access-token-stdin"
        ):
            await connectors.get_connection("slack")
        await vault.save_connection("slack", "work", _tokens("xoxp-2", NOW + 3600))
        assert (await connectors.get_connection("slack")).access_token == "xoxp-2"
        renewed = await connectors.refused(credential)
        assert renewed is connectors.ready("slack", None)
        assert renewed is not None
        assert await connectors.refused(renewed) is None


async def test_a_token_without_an_end_serves_on(tmp_path: Path) -> None:
    """An unknown expiry is no expiry (R181)."""
    clock = Clock()
    async with _connectors(tmp_path, clock) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("ghp"))
        clock.now += 10 * 365 * 86400
        assert connectors.ready("slack", None) is not None


async def test_frozen_and_removed_count_at_once(tmp_path: Path) -> None:
    """A frozen connection is told as such; a removed one is not connected (R182)."""
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp"))
        await vault.freeze("slack", "work")
        assert connectors.ready("slack", None) is None
        with pytest.raises(NotConnected, match=r"slack@work is frozen \(operator\)"):
            await connectors.get_connection("slack")
        await vault.remove("slack", "work")
        with pytest.raises(NotConnected, match="not connected"):
            await connectors.get_connection("slack")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        (
            "UPDATE connections SET state = 'reauthorization_required', cause = 'revoked'",
            r"needs a person \(revoked\)",
        ),
        ("UPDATE connections SET access_token = zeroblob(60)", "is damaged: store a new one"),
    ],
)
async def test_what_a_person_must_mend_is_told(tmp_path: Path, statement: str, match: str) -> None:
    """A dead grant and a damaged token say so, with the command that mends it (R140, R178)."""
    async with _connectors(tmp_path) as (_, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp"))
        async with vault._store.transaction() as writing:
            await writing.execute(statement)
    async with _connectors(tmp_path) as (connectors, _):
        with pytest.raises(ReauthorizationRequired, match=match) as caught:
            await connectors.get_connection("slack")
    assert "connect slack --connection work --access-token-stdin" in caught.value.detail


async def test_what_another_process_stored_is_found(tmp_path: Path) -> None:
    """Without anything in memory the store is looked at before saying no (R176)."""
    async with _connectors(tmp_path) as (connectors, _), opened(tmp_path / "d") as other:
        await other.save_connection("slack", "work", _tokens("xoxp"))
        assert connectors.ready("slack", None) is None
        assert (await connectors.get_connection("slack")).access_token == "xoxp"


async def test_a_store_that_fails_is_a_passing_error(tmp_path: Path) -> None:
    """Held tokens serve on while the store is away; what is not held is RefreshFailed with retry advice (R178)."""
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp"))

        async def fails(*_: object) -> tuple[int, tuple[()]]:
            raise StoreError("the disk reports an error", reason="io")

        vault._store.look = fails  # type: ignore[method-assign]  # the failure under test
        assert (await connectors.get_connection("slack")).access_token == "xoxp"
        assert (await connectors.obtain("slack", None)).access_token == Secret("xoxp")
        with pytest.raises(RefreshFailed, match="cannot be read for now") as caught:
            await connectors.get_connection("tenant")
        assert caught.value.retry_after == 1.0


async def test_get_access_token_warns_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deprecated call works, gives the bare string and warns on its first use only (R170)."""
    monkeypatch.setattr(module._Once, "told", False)
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("xoxp"))
        with pytest.warns(DeprecationWarning, match="use get_connection") as told:
            assert await connectors.get_access_token("slack") == "xoxp"
        assert told[0].filename == __file__
        assert await connectors.get_access_token("slack", connection="work") == "xoxp"


async def test_tokens_are_in_no_repr_or_error(tmp_path: Path) -> None:
    """Nothing that could be printed holds a token: values, errors, the module itself (R143, R179)."""
    clock = Clock()
    async with _connectors(tmp_path, clock) as (connectors, vault):
        await vault.save_connection("slack", "work", _tokens("canary-tok", NOW + 100))
        shown = [
            connectors,
            vault,
            vault.snapshot,
            connectors.ready("slack", None),
            await connectors.get_connection("slack"),
        ]
        clock.now += 100
        with pytest.raises(RequestError) as caught:
            await connectors.get_connection("slack")
        shown += [caught.value, caught.value.__dict__, vault.connections(), await vault.audit()]
        assert "canary-tok" not in "".join(map(repr, shown)) + str(caught.value)


def _called(work: Callable[[], object]) -> list[str]:
    """Every function that ``work`` goes through, Python's and C's: ``module.name``."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            seen.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}")
        elif event == "c_call":
            owner = (
                getattr(argument, "__module__", None) or type(getattr(argument, "__self__", None)).__name__
            )
            seen.append(f"{owner}.{getattr(argument, '__name__', argument)}")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen[1:-1]  # without ``work`` and the end of watching


async def test_ready_is_the_same_object_from_memory(tmp_path: Path) -> None:
    """The same Credential while nothing changed: a few look-ups, no I/O, no thread, no coroutine, no garbage (R174)."""
    async with _connectors(tmp_path) as (connectors, vault):
        for at in range(200):
            await vault.save_connection("slack", f"c{at}", _tokens(f"xoxp-{at}", NOW + 100))
            if at == 3:
                break
        first = connectors.ready("slack", None)
        assert connectors.ready("slack", None) is first is connectors.ready("slack", "c0")
        called = _called(lambda: connectors.ready("slack", None))
        gc.collect()
        before = gc.get_count()[0]
        for _ in range(1000):
            connectors.ready("slack", None)
        assert gc.get_count()[0] - before < 50
    assert {"proxy.connectors.module.ready", "proxy.connectors.sources.vault.ready"} <= {*called}
    assert all(name.startswith(("proxy.connectors.", "dict.", "support.vaults.")) for name in called), called
    assert len(called) < 15


def test_from_threads(tmp_path: Path) -> None:
    """The façade answers plain calls from many threads, and passes errors on (R177)."""

    async def prepare() -> None:
        async with _connectors(tmp_path) as (_, vault):
            await vault.save_connection("tenant", "work", _tokens("tok"), config={"subdomain": "acme"})

    asyncio.run(prepare())

    @asynccontextmanager
    async def open_connectors() -> AsyncIterator[Connectors]:
        async with _connectors(tmp_path) as (connectors, _):
            yield connectors

    with SyncConnectors(open_connectors) as connectors, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: connectors.get_connection("tenant"), range(100)))
        assert found == [ConnectorConnection("tok", {"subdomain": "acme"})] * 100
        with pytest.raises(NotConnected):
            connectors.get_connection("slack")
        with pytest.raises(ValueError, match="required"):
            connectors.get_connection("")
        with pytest.raises(RuntimeError, match="open already"):
            connectors.__enter__()
    with pytest.raises(RuntimeError, match="with block"):
        connectors.get_connection("tenant")
    assert "connectors" not in {thread.name for thread in threading.enumerate()}


def test_a_facade_that_cannot_open_leaves_nothing(tmp_path: Path) -> None:
    """When opening fails the error comes out, and no thread stays behind."""

    @asynccontextmanager
    async def open_connectors() -> AsyncIterator[Connectors]:
        raise StoreError("the disk is full", reason="full")
        yield

    with pytest.raises(StoreError, match="disk is full"), SyncConnectors(open_connectors):
        pytest.fail("opened")
    assert "connectors" not in {thread.name for thread in threading.enumerate()}


async def test_the_config_given_out_is_a_copy(tmp_path: Path) -> None:
    """A caller that changes what it got changes nothing for the next one."""
    async with _connectors(tmp_path) as (connectors, vault):
        await vault.save_connection("tenant", "work", _tokens("tok"), config={"subdomain": "acme"})
        found = await connectors.get_connection("tenant")
        assert isinstance(found.connection_config, dict)
        found.connection_config["subdomain"] = "evil"
        assert (await connectors.get_connection("tenant")).connection_config == {"subdomain": "acme"}
        credential = connectors.ready("tenant", None)
        assert credential is not None
        assert isinstance(credential.config, MappingProxyType)
