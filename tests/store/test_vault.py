"""The vault: what is stored comes back, in every process, sealed; what is damaged or foreign is told."""

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from support.stores import VaultPlace
from support.vaults import CANARY, CATALOG, MASTER, NOW, OTHER_MASTER, Clock, key_record, tokens_of

from proxy.connectors.masterkey import GivenKey
from proxy.connectors.model import Tokens
from proxy.connectors.snapshot import DAMAGED
from proxy.connectors.store import Asked, Row
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, StateError, StoreError
from proxy.keys import KeyRecord
from proxy.operations.keys import KeyRequest, create_key, key_document
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


async def _edit(place: VaultPlace, statement: str, *params: object) -> None:
    """A change behind the vault's back."""
    async with place.store() as store, store.transaction() as writing:
        await writing.execute(statement, *params)


async def _everything(place: VaultPlace) -> list[object]:
    tables = ("changes", "data_keys", "canary", "connections", "keys", "audit", "identity")
    async with place.store() as store, store.snapshot() as reading:
        return [
            [dict(row) for row in await reading.fetch(f"SELECT * FROM {table}")]  # noqa: S608  # our own names
            for table in tables
        ]


async def test_a_connection_survives_a_restart(place: VaultPlace) -> None:
    """All of a connection comes back after a restart, tokens to the byte (R175)."""
    async with place.opened() as vault:
        saved = await vault.save_connection(
            "tenant", "work", tokens_of(), config={"subdomain": "ACME"}, account="ann@acme.example",
            scopes=("read", "write"), metadata={"team": "T1"}, scheme="raw",
        )  # fmt: skip
    async with place.opened() as vault:
        assert vault.connections() == (saved,)
        held = vault.snapshot.held[saved.connection_id]
    assert (saved.config, saved.metadata) == ({"subdomain": "acme"}, {"team": "T1"})
    assert (saved.account, saved.scopes, saved.scheme) == ("ann@acme.example", ("read", "write"), "raw")
    assert (saved.is_default, saved.state, saved.generation, saved.expires_at) == (
        True,
        "active",
        1,
        NOW + 3600,
    )
    assert held.tokens == replace(tokens_of(), issued_at=NOW)


async def test_the_first_connection_is_the_default_until_changed(place: VaultPlace) -> None:
    """First made is default; another can be; removing the default leaves the only other one in its place."""
    async with place.opened() as vault:
        for name in ("one", "two", "three"):
            await vault.save_connection("slack", name, tokens_of(f"xoxp-{name}"))
        lookup = vault.snapshot.find
        assert lookup("slack", None) is lookup("slack", "one")
        await vault.set_default("slack", "two")
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-two")
        assert [one.is_default for one in vault.connections()] == [False, False, True]
        await vault.remove("slack", "two")
        assert ("slack", None) not in vault.snapshot.credentials
        await vault.remove("slack", "one")
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-three")


async def test_reconnecting_keeps_id_default_and_place(place: VaultPlace) -> None:
    """The same name again renews tokens in place: same id, next generation, a new credential (R108)."""
    async with place.opened() as vault:
        first = await vault.save_connection("slack", "work", tokens_of("xoxp-1"))
        before = vault.snapshot.credentials["slack", None]
        again = await vault.save_connection("slack", "work", tokens_of("xoxp-2"))
        after = vault.snapshot.credentials["slack", None]
    assert (again.connection_id, again.is_default) == (first.connection_id, True)
    assert (again.generation, again.created_at) == (2, first.created_at)
    assert after is not before
    assert after.access_token == Secret("xoxp-2")


async def test_unchanged_connections_keep_their_credential_object(place: VaultPlace) -> None:
    """A change elsewhere, or of the default mark alone, leaves a connection's Credential the same object."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of())
        before = vault.snapshot.credentials["slack", "work"]
        await vault.save_connection("slack", "home", tokens_of("xoxp-2"))
        await vault.add_key(key_record()[0])
        await vault.set_default("slack", "home")
        assert vault.snapshot.credentials["slack", "work"] is before


@pytest.mark.parametrize(
    ("service", "name", "token", "config", "match"),
    [
        ("slak", "work", "x", None, 'no such service, did you mean "slack"'),
        ("slack", "../x", "x", None, "a name has"),
        ("slack", "", "x", None, "a name has"),
        ("slack", "a@b", "x", None, "a name has"),
        ("slack", "work", "", None, "token is empty"),
        ("slack", "work", "x\r\nX-Evil: 1", None, "no header can"),
        ("slack", "work", "two words", None, "no header can"),
        ("slack", "work", "x" * 65537, None, "over 65536"),
        ("slack", "work", "x", {"subdomain": "a"}, "needs no connection_config"),
        ("tenant", "work", "x", None, "subdomain"),
        ("tenant", "work", "x", {"subdomain": "evil.example/"}, "subdomain"),
    ],
)
async def test_what_cannot_be_used_is_not_stored(
    *, place: VaultPlace, service: str, name: str, token: str, config: dict[str, str] | None, match: str
) -> None:
    """Unknown service, bad name, token or config: refused before anything is written, without telling the token."""
    async with place.opened() as vault:
        with pytest.raises(ConfigurationError, match=match) as caught:
            await vault.save_connection(service, name, Tokens(Secret(token)), config=config)
        assert vault.connections() == ()
        assert await vault.audit() == ()
    assert len(token) < 3 or token not in str(caught.value)


async def test_frozen_connections_give_nothing(place: VaultPlace) -> None:
    """A frozen connection has no credential and keeps its tokens; thawed, it works again."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of())
        await vault.freeze("slack", "work")
        assert vault.snapshot.credentials == {}
        assert (vault.connections()[0].state, vault.connections()[0].cause) == ("frozen", "operator")
        await vault.freeze("slack", "work", frozen=False)
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)
        with pytest.raises(ConfigurationError, match="no such connection"):
            await vault.freeze("slack", "wrk")


async def test_keys_live_and_die(place: VaultPlace) -> None:
    """Keys are added, renamed, used, revoked one by one and all at once; revoked stays revoked (R84, R89)."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        (one, _), (two, _), (three, _) = key_record("one"), key_record("two"), key_record("three")
        for record in (one, two, three):
            await vault.add_key(record)
        assert vault.keys() == {record.key_id: record for record in (one, two, three)}
        with pytest.raises(ConfigurationError, match="of that name is in force"):
            await vault.add_key(key_record("one")[0])
        with pytest.raises(ConfigurationError, match="stored already"):
            await vault.add_key(KeyRecord(one.key_id, "other", b"", ()))
        await vault.rename_key(one.key_id, "uno")
        await vault.touch_keys({one.key_id: NOW + 5, two.key_id: NOW + 1})
        await vault.touch_keys({one.key_id: NOW + 3})
        assert await vault.key_usage() == {one.key_id: NOW + 5, two.key_id: NOW + 1}
        clock.now += 60
        assert await vault.revoke_key(one.key_id)
        assert not await vault.revoke_key(one.key_id)
        assert await vault.revoke_all() == 2
    async with place.opened() as vault:
        assert {record.name: record.revoked_at for record in vault.keys().values()} == dict.fromkeys(
            ("uno", "two", "three"), NOW + 60
        )
        with pytest.raises(ConfigurationError, match="no such key"):
            await vault.revoke_key("nope")


async def test_changes_and_reveals_are_audited(place: VaultPlace) -> None:
    """Every change, and a reveal, is a row with who, what and when; old rows can be dropped (R157)."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await vault.save_connection("slack", "work", tokens_of(), actor="cli:ann")
        clock.now += 86400 * 91
        await vault.remove("slack", "work", actor="cli:bob")
        await vault.record("key:abc", "token.reveal", "slack@work", {"key": "abc"})
        rows = await vault.audit()
        assert [(row.actor, row.action, row.subject) for row in reversed(rows)] == [
            ("cli:ann", "connection.save", "slack@work"),
            ("cli:bob", "connection.remove", "slack@work"),
            ("key:abc", "token.reveal", "slack@work"),
        ]
        assert CANARY not in str(rows)
        assert await vault.prune_audit() == 0
        assert await vault.prune_audit(90) == 1
        assert [row.at for row in await vault.audit()] == [clock.now, clock.now]


def _flip(blob: bytes) -> bytes:
    return blob[:-1] + bytes((blob[-1] ^ 1,))


@pytest.mark.parametrize(
    "damage", [_flip, lambda blob: blob[:20], lambda _: b"", lambda blob: b"\x09" + blob[1:]]
)
async def test_a_damaged_token_fails_alone(place: VaultPlace, damage: Callable[[bytes], bytes]) -> None:
    """A changed, cut, empty or foreign blob: that connection says so, the others work, the start succeeds (R140)."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "bad", tokens_of())
        await vault.save_connection("slack", "good", tokens_of("xoxp-good"))
    async with place.store() as store, store.transaction() as writing:
        found = await writing.fetch("SELECT access_token FROM connections WHERE name = 'bad'")
        blob = damage(bytes(found[0]["access_token"]))
        await writing.execute("UPDATE connections SET access_token = $1 WHERE name = 'bad'", blob)
    async with place.opened() as vault:
        bad, good = vault.connections()
        assert (bad.name, bad.state, bad.cause) == ("bad", "reauthorization_required", DAMAGED)
        assert good.state == "active"
        assert set(vault.snapshot.credentials) == {("slack", "good")}
        renewed = await vault.save_connection("slack", "bad", tokens_of("xoxp-new"))
        assert renewed.connection_id == bad.connection_id
        assert vault.snapshot.credentials["slack", "bad"].access_token == Secret("xoxp-new")


async def test_swapped_rows_do_not_open(place: VaultPlace) -> None:
    """Two rows' blobs exchanged, or one row's two columns, give no wrong token: none opens (R134)."""
    async with place.opened() as vault:
        for name in ("one", "two", "three"):
            await vault.save_connection("slack", name, tokens_of(f"xoxp-{name}"))
    async with place.store() as store, store.transaction() as writing:
        rows = await writing.fetch("SELECT name, access_token FROM connections")
        blobs = {row["name"]: row["access_token"] for row in rows}
        for name, other in (("one", "two"), ("two", "one")):
            await writing.execute(
                "UPDATE connections SET access_token = $1 WHERE name = $2", blobs[other], name
            )
        await writing.execute(
            "UPDATE connections SET access_token = refresh_token, refresh_token = access_token WHERE name = 'three'"
        )
    async with place.opened() as vault:
        assert [one.cause for one in vault.connections()] == [DAMAGED] * 3
        assert vault.snapshot.credentials == {}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE connections SET service = 'notion', config = NULL",
        """UPDATE connections SET config = '{"subdomain":"attacker"}'""",
        "UPDATE connections SET config = NULL",
        "UPDATE connections SET scheme = 'raw'",
        "UPDATE connections SET connection_id = 'con_0'",
    ],
)
async def test_an_edited_row_leads_no_token_elsewhere(place: VaultPlace, statement: str) -> None:
    """Who can write the database but has no key cannot send a token to another service or tenant (R83, R134)."""
    async with place.opened() as vault:
        await vault.save_connection("tenant", "work", tokens_of(), config={"subdomain": "acme"})
    await _edit(place, statement)
    async with place.opened() as vault:
        assert [one.cause for one in vault.connections()] == [DAMAGED]
        assert vault.snapshot.credentials == {}


async def test_a_wrong_master_key_stops_the_start(place: VaultPlace) -> None:
    """With another key the start fails, names both key ids and changes nothing (R138)."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of())
        master_id = vault._data_keys.master_id
    before = await _everything(place)
    with pytest.raises(StateError, match=f"sealed with master key {master_id}.*nothing was changed"):
        await place.open(key=GivenKey(OTHER_MASTER))
    assert await _everything(place) == before
    async with place.opened() as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("UPDATE canary SET sealed = (SELECT wrapped FROM data_keys)", ()),
        ("UPDATE data_keys SET wrapped = $1", (bytes(77),)),
        ("UPDATE data_keys SET is_active = 0", ()),
    ],
)
async def test_a_damaged_canary_or_data_key_stops_the_start(
    place: VaultPlace, statement: str, params: tuple[bytes, ...]
) -> None:
    """Damage to what proves or wraps the keys is found before any write (R139)."""
    async with place.opened():
        pass
    await _edit(place, statement, *params)
    before = await _everything(place)
    with pytest.raises(StateError, match="restore a backup"):
        await place.open()
    assert await _everything(place) == before


async def test_first_openings_at_the_same_time_agree(place: VaultPlace) -> None:
    """Several first openings of an empty vault at once end up with one data key and one identity (R138)."""
    vaults = await asyncio.gather(*(place.open() for _ in range(4)))
    await vaults[0].save_connection("slack", "work", tokens_of())
    for vault in vaults:
        await vault.catch_up()
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)
        assert not vault.is_copy
        assert vault.mark(Secret("x")) == vaults[0].mark(Secret("x"))
    assert len(await _rows(vaults[0], "SELECT key_id FROM data_keys")) == 1
    for vault in vaults:
        await vault.close()


async def test_rewrapping_changes_the_master_key_alone(place: VaultPlace) -> None:
    """After rewrap the new master key opens everything and the old one nothing; rows were not touched (R136)."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of())
        await vault.rewrap(OTHER_MASTER)
        await vault.save_connection("slack", "more", tokens_of("xoxp-2"))
    with pytest.raises(StateError, match="the one given is"):
        await place.open(key=GivenKey(MASTER))
    async with place.opened(key=GivenKey(OTHER_MASTER)) as vault:
        assert {one.access_token.reveal() for one in vault.snapshot.credentials.values()} == {
            CANARY,
            "xoxp-2",
        }
        assert {row["generation"] for row in await _rows(vault, "SELECT generation FROM connections")} == {1}


async def _rows(vault: Vault, statement: str) -> list[dict[str, object]]:
    async with vault._store.snapshot() as reading:
        return [dict(row) for row in await reading.fetch(statement)]


async def test_a_used_up_data_key_is_followed_by_another(place: VaultPlace) -> None:
    """Near 2^31 messages a new data key takes over; old rows stay readable, here and in another process (R141)."""
    async with place.opened() as other, place.opened() as vault:
        await vault.save_connection("slack", "old", tokens_of("xoxp-old"))
        async with vault._store.transaction() as writing:
            await writing.execute("UPDATE data_keys SET messages = $1", 2**31 - 10)
        vault._data_keys._left = 0
        await vault.save_connection("slack", "new", tokens_of("xoxp-new"))
        used = await _rows(vault, "SELECT name, access_key_id FROM connections")
        assert len({row["access_key_id"] for row in used}) == 2
        assert [
            row["messages"]
            for row in await _rows(vault, "SELECT messages FROM data_keys WHERE is_active = 1")
        ] == [256]
        await other.catch_up()
        assert other.snapshot.credentials["slack", "new"].access_token == Secret("xoxp-new")
        assert other.snapshot.credentials["slack", "old"].access_token == Secret("xoxp-old")


async def test_messages_are_counted_ahead(place: VaultPlace) -> None:
    """The durable count is never below what was sealed, over restarts and in several processes (R141)."""
    for turn in range(3):
        async with place.opened() as one, place.opened() as two:
            for vault in (one, two):
                for at in range(3):
                    await vault.save_connection("slack", f"c{turn}-{at}", tokens_of())
    async with place.opened() as vault:
        counted = (await _rows(vault, "SELECT messages FROM data_keys"))[0]["messages"]
    assert counted == 1 + 3 * 2 * 256


OTHER_PROCESS = """
    import asyncio, contextlib, os, time
    from proxy.assembly.vaults import open_vault
    from proxy.settings import load_settings
    from support.vaults import CANARY, REFRESH, key_record, tokens_of, CATALOG

    async def main():
        vault = await open_vault(load_settings(None, os.environ), CATALOG)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(vault.close)
            seen = asyncio.Event()
            watching = asyncio.create_task(vault.watch(seen.set))
            print("ready", flush=True)
            loop = asyncio.get_running_loop()
            while not all(not key.is_live(time.time()) for key in vault.keys().values()):
                seen.clear()
                await seen.wait()
            print(time.time(), flush=True)
            while ("slack", None) in vault.snapshot.credentials:
                seen.clear()
                await seen.wait()
            print(time.time(), flush=True)
            watching.cancel()

    asyncio.run(main())
"""


async def test_another_process_sees_a_revocation_within_a_second(place: VaultPlace) -> None:
    """A key revoked and a connection removed here count in a real other process within 1 s (R89, R176)."""
    record, _ = key_record()
    async with place.opened() as vault:
        await vault.add_key(record)
        await vault.save_connection("slack", "work", tokens_of(expires_at=None))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), stdout=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path), "HOME": str(place.folder), **place.environment},
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        revoked_at = time.time()
        await vault.revoke_key(record.key_id)
        seen = float(await process.stdout.readline())
        removed_at = time.time()
        await vault.remove("slack", "work")
        gone = float(await process.stdout.readline())
        assert await process.wait() == 0
    assert seen - revoked_at < 1.0
    assert gone - removed_at < 1.0


async def test_watch_survives_a_failing_store(place: VaultPlace) -> None:
    """While the store fails, memory serves on; afterwards changes are followed again (R150, R153)."""
    async with place.opened() as vault, place.opened() as other:
        await vault.save_connection("slack", "work", tokens_of())
        changed, failing, looked = asyncio.Event(), True, asyncio.Event()
        asked = vault._store.look

        async def look(seen: int, *statements: Asked) -> tuple[int, tuple[Sequence[Row], ...]]:
            looked.set()
            if failing:
                raise StoreError("the disk reports an error", reason="io")
            return await asked(seen, *statements)

        vault._store.look = look
        watching = asyncio.create_task(vault.watch(changed.set, interval=0.01))
        await other.save_connection("slack", "more", tokens_of("xoxp-2"))
        await looked.wait()
        assert ("slack", "more") not in vault.snapshot.credentials
        assert ("slack", "work") in vault.snapshot.credentials
        failing = False
        await changed.wait()
        assert ("slack", "more") in vault.snapshot.credentials
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


@pytest.mark.parametrize(
    "failure", [StoreError("the disk reports an error", reason="io"), StateError("a data key does not open")]
)
async def test_a_commit_counts_even_if_reading_it_back_fails(
    place: VaultPlace, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """A change whose commit succeeded is no error when reading or erasing fails after it; memory follows later."""
    async with place.opened() as vault:
        await vault.save_connection("slack", "work", tokens_of("xoxp-1"))

        def fails(*_: object) -> object:
            raise failure

        with monkeypatch.context() as broken:
            broken.setattr(vault._store, "look", fails)
            if isinstance(failure, StoreError):  # the other one is of keys, which erasing does not need
                broken.setattr(vault._store, "scrub", fails)
            assert (await vault.save_connection("slack", "work", tokens_of("xoxp-2"))).generation == 2
            assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-1")
        await vault.catch_up()
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-2")
        if place.kind == "sqlite":
            assert (place.folder / "vault.db-wal").stat().st_size == 0


async def test_a_secret_for_a_purpose(place: VaultPlace) -> None:
    """Every process that opens the vault has the same secret for a purpose; other purposes have others."""
    async with place.opened() as vault:
        secret = vault.secret_for("capability addresses")
        assert len(secret) == 32
        assert secret != vault.secret_for("something else")
    async with place.opened() as again:
        assert again.secret_for("capability addresses") == secret


async def test_a_key_made_just_before_a_second_reads_the_same_when_stored(place: VaultPlace) -> None:
    """Times are stored in milliseconds: what the answer to a creation says of them is what is read later."""
    async with place.opened() as vault:
        made, _ = await create_key(
            vault, CATALOG, KeyRequest("k", ["slack"], expires="1h"), now=NOW + 0.9997, actor="ann"
        )
    async with place.opened() as vault:
        assert key_document(vault.keys()[made.key_id], None, NOW) == key_document(made, None, NOW)
