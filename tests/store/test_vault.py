"""The vault: what is stored comes back, in every process, sealed; what is damaged or foreign is told."""

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.vaults import CATALOG, MASTER, NOW, OTHER_MASTER, Clock, key_file, opened

from proxy.connectors.masterkey import GivenKey, KeyCommand, KeyFile
from proxy.connectors.model import Tokens
from proxy.connectors.snapshot import DAMAGED
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, StateError, StoreError
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
CANARY = "canary-8d1f-access"
REFRESH = "canary-8d1f-refresh"


def _tokens(
    access: str = CANARY, refresh: str | None = REFRESH, expires_at: float | None = NOW + 3600
) -> Tokens:
    return Tokens(Secret(access), None if refresh is None else Secret(refresh), expires_at)


def _record(name: str = "backend") -> tuple[KeyRecord, Secret]:
    key_id, key = generate()
    return KeyRecord(
        key_id, name, digest(key.reveal().encode()), ("slack", "notion:GET"), created_at=NOW
    ), key


def _edit(folder: Path, statement: str, *params: object) -> None:
    with sqlite3.connect(folder / "vault.db") as plain:
        plain.execute(statement, params)
    plain.close()


async def test_a_connection_survives_a_restart(tmp_path: Path) -> None:
    """All of a connection comes back after a restart, tokens to the byte (R175)."""
    async with opened(tmp_path / "d") as vault:
        saved = await vault.save_connection(
            "tenant", "work", _tokens(), config={"subdomain": "ACME"}, account="ann@acme.example",
            scopes=("read", "write"), metadata={"team": "T1"}, scheme="raw",
        )  # fmt: skip
    async with opened(tmp_path / "d") as vault:
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
    assert held.tokens == replace(_tokens(), issued_at=NOW)


async def test_the_first_connection_is_the_default_until_changed(tmp_path: Path) -> None:
    """First made is default; another can be; removing the default leaves the only other one in its place."""
    async with opened(tmp_path / "d") as vault:
        for name in ("one", "two", "three"):
            await vault.save_connection("slack", name, _tokens(f"xoxp-{name}"))
        lookup = vault.snapshot.find
        assert lookup("slack", None) is lookup("slack", "one")
        await vault.set_default("slack", "two")
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-two")
        assert [one.is_default for one in vault.connections()] == [False, False, True]
        await vault.remove("slack", "two")
        assert ("slack", None) not in vault.snapshot.credentials
        await vault.remove("slack", "one")
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-three")


async def test_reconnecting_keeps_id_default_and_place(tmp_path: Path) -> None:
    """The same name again renews tokens in place: same id, next generation, a new credential (R108)."""
    async with opened(tmp_path / "d") as vault:
        first = await vault.save_connection("slack", "work", _tokens("xoxp-1"))
        before = vault.snapshot.credentials["slack", None]
        again = await vault.save_connection("slack", "work", _tokens("xoxp-2"))
        after = vault.snapshot.credentials["slack", None]
    assert (again.connection_id, again.is_default) == (first.connection_id, True)
    assert (again.generation, again.created_at) == (2, first.created_at)
    assert after is not before
    assert after.access_token == Secret("xoxp-2")


async def test_unchanged_connections_keep_their_credential_object(tmp_path: Path) -> None:
    """A change elsewhere, or of the default mark alone, leaves a connection's Credential the same object."""
    async with opened(tmp_path / "d") as vault:
        await vault.save_connection("slack", "work", _tokens())
        before = vault.snapshot.credentials["slack", "work"]
        await vault.save_connection("slack", "home", _tokens("xoxp-2"))
        await vault.add_key(_record()[0])
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
    *, tmp_path: Path, service: str, name: str, token: str, config: dict[str, str] | None, match: str
) -> None:
    """Unknown service, bad name, token or config: refused before anything is written, without telling the token."""
    async with opened(tmp_path / "d") as vault:
        with pytest.raises(ConfigurationError, match=match) as caught:
            await vault.save_connection(service, name, Tokens(Secret(token)), config=config)
        assert vault.connections() == ()
        assert await vault.audit() == ()
    assert len(token) < 3 or token not in str(caught.value)


async def test_frozen_connections_give_nothing(tmp_path: Path) -> None:
    """A frozen connection has no credential and keeps its tokens; thawed, it works again."""
    async with opened(tmp_path / "d") as vault:
        await vault.save_connection("slack", "work", _tokens())
        await vault.freeze("slack", "work")
        assert vault.snapshot.credentials == {}
        assert (vault.connections()[0].state, vault.connections()[0].cause) == ("frozen", "operator")
        await vault.freeze("slack", "work", frozen=False)
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)
        with pytest.raises(ConfigurationError, match="no such connection"):
            await vault.freeze("slack", "wrk")


async def test_keys_live_and_die(tmp_path: Path) -> None:
    """Keys are added, renamed, used, revoked one by one and all at once; revoked stays revoked (R84, R89)."""
    clock = Clock()
    async with opened(tmp_path / "d", clock=clock) as vault:
        (one, _), (two, _), (three, _) = _record("one"), _record("two"), _record("three")
        for record in (one, two, three):
            await vault.add_key(record)
        assert vault.keys() == {record.key_id: record for record in (one, two, three)}
        with pytest.raises(ConfigurationError, match="of that name is in force"):
            await vault.add_key(_record("one")[0])
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
    async with opened(tmp_path / "d") as vault:
        assert {record.name: record.revoked_at for record in vault.keys().values()} == dict.fromkeys(
            ("uno", "two", "three"), NOW + 60
        )
        with pytest.raises(ConfigurationError, match="no such key"):
            await vault.revoke_key("nope")


async def test_changes_and_reveals_are_audited(tmp_path: Path) -> None:
    """Every change, and a reveal, is a row with who, what and when; old rows can be dropped (R157)."""
    clock = Clock()
    async with opened(tmp_path / "d", clock=clock) as vault:
        await vault.save_connection("slack", "work", _tokens(), actor="cli:ann")
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
        assert await vault.prune_audit() == 1
        assert [row.at for row in await vault.audit()] == [clock.now, clock.now]


async def test_files_are_ours_alone(tmp_path: Path) -> None:
    """Folder 0700; database, log, shared memory and master key 0600, while open, whatever the umask (R142)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)) as vault:
        await vault.save_connection("slack", "work", _tokens())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert vault.notices == ()
    names = ("vault.db", "vault.db-wal", "vault.db-shm", "vault.latest", "master.key")
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_files_open_to_others_are_told(tmp_path: Path) -> None:
    """An open folder is told; an open database is closed to others and told (R142)."""
    folder = tmp_path / "d"
    async with opened(folder):
        pass
    folder.chmod(0o755)
    (folder / "vault.db").chmod(0o644)
    async with opened(folder) as vault:
        assert [word in notice for word, notice in zip(("0755", "0644"), vault.notices, strict=True)] == [
            True,
            True,
        ]
    assert stat.S_IMODE((folder / "vault.db").stat().st_mode) == 0o600


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name != "master.key")


async def test_no_plaintext_ever_reaches_the_disk(tmp_path: Path) -> None:
    """Neither tokens nor keys stand in any file in any moment: database, log, shared memory (R143, R144)."""
    folder = tmp_path / "d"
    record, key = _record()
    async with opened(folder, key=key_file(folder)) as vault:
        for name in ("one", "two", "one"):
            await vault.save_connection("slack", name, _tokens())
            assert CANARY.encode() not in _bytes_of(folder)
        await vault.add_key(record)
        on_disk = _bytes_of(folder)
        await vault.remove("slack", "one")
        on_disk += _bytes_of(folder)
    on_disk += _bytes_of(folder)
    assert b"backend" in on_disk  # the names that may stand there do
    for secret in (CANARY, REFRESH, key.reveal(), (folder / "master.key").read_text().strip()):
        assert secret.encode() not in on_disk


async def test_removed_ciphertext_is_gone_from_the_files(tmp_path: Path) -> None:
    """After removing or renewing a connection its old sealed bytes stand in no file (R144)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:

        async def sealed(name: str) -> bytes:
            async with vault._store.snapshot() as reading:
                rows = await reading.fetch("SELECT access_token FROM connections WHERE name = $1", name)
            return bytes(rows[0]["access_token"])

        for name in ("renewed", "removed"):
            await vault.save_connection("slack", name, _tokens())
        old = [await sealed("renewed"), await sealed("removed")]
        assert all(blob in _bytes_of(folder) for blob in old)
        await vault.save_connection("slack", "renewed", _tokens())
        await vault.remove("slack", "removed")
        assert [blob in _bytes_of(folder) for blob in old] == [False, False]


async def test_erasing_waits_for_a_reader_elsewhere(tmp_path: Path) -> None:
    """A reader in another process may hold old bytes up; they go when it is done, at the next look (R144)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", _tokens())
        other = sqlite3.connect(folder / "vault.db", isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM connections").fetchall()
        await vault.remove("slack", "work")
        assert (folder / "vault.db-wal").stat().st_size > 0
        other.execute("COMMIT")
        other.close()
        await vault.catch_up()
        assert (folder / "vault.db-wal").stat().st_size == 0


def _flip(blob: bytes) -> bytes:
    return blob[:-1] + bytes((blob[-1] ^ 1,))


@pytest.mark.parametrize(
    "damage", [_flip, lambda blob: blob[:20], lambda _: b"", lambda blob: b"\x09" + blob[1:]]
)
async def test_a_damaged_token_fails_alone(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A changed, cut, empty or foreign blob: that connection says so, the others work, the start succeeds (R140)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "bad", _tokens())
        await vault.save_connection("slack", "good", _tokens("xoxp-good"))
    with sqlite3.connect(folder / "vault.db") as plain:
        blob = plain.execute("SELECT access_token FROM connections WHERE name = 'bad'").fetchone()[0]
        plain.execute("UPDATE connections SET access_token = ? WHERE name = 'bad'", (damage(blob),))
    plain.close()
    async with opened(folder) as vault:
        bad, good = vault.connections()
        assert (bad.name, bad.state, bad.cause) == ("bad", "reauthorization_required", DAMAGED)
        assert good.state == "active"
        assert set(vault.snapshot.credentials) == {("slack", "good")}
        renewed = await vault.save_connection("slack", "bad", _tokens("xoxp-new"))
        assert renewed.connection_id == bad.connection_id
        assert vault.snapshot.credentials["slack", "bad"].access_token == Secret("xoxp-new")


async def test_swapped_rows_do_not_open(tmp_path: Path) -> None:
    """Two rows' blobs exchanged, or one row's two columns, give no wrong token: none opens (R134)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        for name in ("one", "two", "three"):
            await vault.save_connection("slack", name, _tokens(f"xoxp-{name}"))
    with sqlite3.connect(folder / "vault.db") as plain:
        blobs = dict(plain.execute("SELECT name, access_token FROM connections").fetchall())
        for name, other in (("one", "two"), ("two", "one")):
            plain.execute("UPDATE connections SET access_token = ? WHERE name = ?", (blobs[other], name))
        plain.execute(
            "UPDATE connections SET access_token = refresh_token, refresh_token = access_token WHERE name = 'three'"
        )
    plain.close()
    async with opened(folder) as vault:
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
async def test_an_edited_row_leads_no_token_elsewhere(tmp_path: Path, statement: str) -> None:
    """Who can write the database but has no key cannot send a token to another service or tenant (R83, R134)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("tenant", "work", _tokens(), config={"subdomain": "acme"})
    _edit(folder, statement)
    async with opened(folder) as vault:
        assert [one.cause for one in vault.connections()] == [DAMAGED]
        assert vault.snapshot.credentials == {}


async def test_a_wrong_master_key_stops_the_start(tmp_path: Path) -> None:
    """With another key the start fails, names both key ids and changes nothing (R138)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", _tokens())
        master_id = vault._data_keys.master_id
    before = (folder / "vault.db").read_bytes()
    with pytest.raises(StateError, match=f"sealed with master key {master_id}.*nothing was changed"):
        await Vault.open(folder, GivenKey(OTHER_MASTER), catalog=CATALOG, clock=Clock())
    assert (folder / "vault.db").read_bytes() == before
    async with opened(folder) as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


async def test_a_missing_master_key_is_not_replaced(tmp_path: Path) -> None:
    """A lost key file stops the start and no new one is made over sealed rows; put back, all is well (R138)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)) as vault:
        await vault.save_connection("slack", "work", _tokens())
    (folder / "master.key").rename(tmp_path / "aside")
    with pytest.raises(StateError, match=r"master\.key is missing.*from your backup"):
        await Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock())
    assert not (folder / "master.key").exists()
    (tmp_path / "aside").rename(folder / "master.key")
    async with opened(folder, key=key_file(folder)) as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


async def test_a_key_file_may_be_forbidden_to_be_made(tmp_path: Path) -> None:
    """Where creating is off (a container without a mount), an empty vault without a key stops the start."""
    folder = tmp_path / "d"
    with pytest.raises(StateError, match="none may be created here"):
        await Vault.open(folder, KeyFile(folder / "master.key", create=False), catalog=CATALOG, clock=Clock())
    assert not (folder / "master.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """A master key that others may read or write stops the start and says how to mend it (R159)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)):
        pass
    (folder / "master.key").chmod(mode)
    with pytest.raises(StateError, match="chmod 600"):
        await Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock())


async def test_first_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    """Several first openings of an empty folder at once end up with one key and one vault (R138)."""
    folder = tmp_path / "d"
    vaults = await asyncio.gather(
        *(Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock()) for _ in range(4))
    )
    await vaults[0].save_connection("slack", "work", _tokens())
    for vault in vaults:
        await vault.catch_up()
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)
        await vault.close()
    assert [path.name for path in folder.glob(".master*")] == []


async def test_the_master_key_may_come_from_a_command(tmp_path: Path) -> None:
    """A command's output is the key; a failing one stops the start without telling what it printed (R136)."""
    code = f"print('{MASTER.reveal()}')"
    key = KeyCommand((sys.executable, "-c", code), {})
    async with opened(tmp_path / "d", key=key) as vault:
        await vault.save_connection("slack", "work", _tokens())
    async with opened(tmp_path / "d", key=GivenKey(MASTER)) as vault:
        assert len(vault.connections()) == 1
    failing = KeyCommand(
        (sys.executable, "-c", "import sys; print('sesame', file=sys.stderr); sys.exit(7)"), {}
    )
    with pytest.raises(StateError, match="master key command failed with exit status 7") as caught:
        await Vault.open(tmp_path / "d", failing, catalog=CATALOG, clock=Clock())
    assert "sesame" not in str(caught.value)


async def test_a_damaged_canary_or_data_key_stops_the_start(tmp_path: Path) -> None:
    """Damage to what proves or wraps the keys is found before any write (R139)."""
    for number, statement in enumerate(
        (
            "UPDATE canary SET sealed = (SELECT wrapped FROM data_keys)",
            "UPDATE data_keys SET wrapped = zeroblob(77)",
            "UPDATE data_keys SET is_active = 0",
        )
    ):
        folder = tmp_path / str(number)
        async with opened(folder):
            pass
        _edit(folder, statement)
        with pytest.raises(StateError, match="restore a backup"):
            await Vault.open(folder, GivenKey(MASTER), catalog=CATALOG, clock=Clock())


async def test_rewrapping_changes_the_master_key_alone(tmp_path: Path) -> None:
    """After rewrap the new master key opens everything and the old one nothing; rows were not touched (R136)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", _tokens())
        await vault.rewrap(OTHER_MASTER)
        await vault.save_connection("slack", "more", _tokens("xoxp-2"))
    with pytest.raises(StateError, match="the one given is"):
        await Vault.open(folder, GivenKey(MASTER), catalog=CATALOG, clock=Clock())
    async with opened(folder, key=GivenKey(OTHER_MASTER)) as vault:
        assert {one.access_token.reveal() for one in vault.snapshot.credentials.values()} == {
            CANARY,
            "xoxp-2",
        }
        assert {row["generation"] for row in await _rows(vault, "SELECT generation FROM connections")} == {1}


async def _rows(vault: Vault, statement: str) -> list[dict[str, object]]:
    async with vault._store.snapshot() as reading:
        return [dict(row) for row in await reading.fetch(statement)]


async def test_a_used_up_data_key_is_followed_by_another(tmp_path: Path) -> None:
    """Near 2^31 messages a new data key takes over; old rows stay readable, here and in another process (R141)."""
    folder = tmp_path / "d"
    async with opened(folder) as other, opened(folder) as vault:
        await vault.save_connection("slack", "old", _tokens("xoxp-old"))
        async with vault._store.transaction() as writing:
            await writing.execute("UPDATE data_keys SET messages = $1", 2**31 - 10)
        vault._data_keys._left = 0
        await vault.save_connection("slack", "new", _tokens("xoxp-new"))
        used = await _rows(vault, "SELECT name, access_key_id FROM connections")
        assert len({row["access_key_id"] for row in used}) == 2
        assert [
            row["messages"]
            for row in await _rows(vault, "SELECT messages FROM data_keys WHERE is_active = 1")
        ] == [256]
        await other.catch_up()
        assert other.snapshot.credentials["slack", "new"].access_token == Secret("xoxp-new")
        assert other.snapshot.credentials["slack", "old"].access_token == Secret("xoxp-old")


async def test_messages_are_counted_ahead(tmp_path: Path) -> None:
    """The durable count is never below what was sealed, over restarts and in several processes (R141)."""
    folder = tmp_path / "d"
    for turn in range(3):
        async with opened(folder) as one, opened(folder) as two:
            for vault in (one, two):
                for at in range(3):
                    await vault.save_connection("slack", f"c{turn}-{at}", _tokens())
    async with opened(folder) as vault:
        counted = (await _rows(vault, "SELECT messages FROM data_keys"))[0]["messages"]
    assert counted == 1 + 3 * 2 * 256


OTHER_PROCESS = """
    import asyncio, sys, time
    from pathlib import Path
    from support.vaults import opened

    async def main():
        async with opened(Path(sys.argv[1]), clock=time.time) as vault:
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


async def test_another_process_sees_a_revocation_within_a_second(tmp_path: Path) -> None:
    """A key revoked and a connection removed here count in a real other process within 1 s (R89, R176)."""
    folder = tmp_path / "d"
    record, _ = _record()
    async with opened(folder) as vault:
        await vault.add_key(record)
        await vault.save_connection("slack", "work", _tokens(expires_at=None))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(OTHER_PROCESS), str(folder),
            stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)},
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


async def test_watch_survives_a_failing_store(tmp_path: Path) -> None:
    """While the store fails, memory serves on; afterwards changes are followed again (R150, R153)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault, opened(folder) as other:
        await vault.save_connection("slack", "work", _tokens())
        changed, failing, looked = asyncio.Event(), True, asyncio.Event()
        asked = vault._store.sequence

        async def sequence() -> int:
            looked.set()
            if failing:
                raise StoreError("the disk reports an error", reason="io")
            return await asked()

        vault._store.sequence = sequence
        watching = asyncio.create_task(vault.watch(changed.set, interval=0.01))
        await other.save_connection("slack", "more", _tokens("xoxp-2"))
        await looked.wait()
        assert ("slack", "more") not in vault.snapshot.credentials
        assert ("slack", "work") in vault.snapshot.credentials
        failing = False
        await changed.wait()
        assert ("slack", "more") in vault.snapshot.credentials
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_a_copied_folder_opens_with_the_key_alone(tmp_path: Path) -> None:
    """The files of a stopped vault, elsewhere, open with the master key and nothing else (R145)."""
    async with opened(tmp_path / "d") as vault:
        await vault.save_connection("slack", "work", _tokens())
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    async with opened(tmp_path / "copy") as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


async def test_numbers_that_went_back_are_noticed(tmp_path: Path) -> None:
    """Should the store's sequence fall (an older state came back), everything is read again, not just newer rows."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "old", _tokens("xoxp-old"))
        await vault.save_connection("slack", "new", _tokens("xoxp-new"))
        _edit(folder, "DELETE FROM connections WHERE name = 'new'")
        _edit(folder, "UPDATE changes SET sequence = 1")
        await vault.catch_up()
        assert [one.name for one in vault.connections()] == ["old"]


@pytest.mark.parametrize(
    "failure", [StoreError("the disk reports an error", reason="io"), StateError("a data key does not open")]
)
async def test_a_commit_counts_even_if_reading_it_back_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """A change whose commit succeeded is no error when reading or erasing fails after it; memory follows later."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", _tokens("xoxp-1"))

        def fails() -> object:
            raise failure

        with monkeypatch.context() as broken:
            broken.setattr(vault._store, "snapshot", fails)
            if isinstance(failure, StoreError):  # the other one is of keys, which erasing does not need
                broken.setattr(vault._store, "scrub", fails)
            assert (await vault.save_connection("slack", "work", _tokens("xoxp-2"))).generation == 2
            assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-1")
        await vault.catch_up()
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-2")
        assert (folder / "vault.db-wal").stat().st_size == 0


async def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder in the key file's place, or an empty file, stops the start with the reason."""
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "folder"), catalog=CATALOG, clock=Clock())
    (tmp_path / "empty").touch(0o600)
    with pytest.raises(StateError, match="not 32 bytes"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "empty"), catalog=CATALOG, clock=Clock())
    with pytest.raises(StateError, match="cannot be made: No such file"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "none" / "key"), catalog=CATALOG, clock=Clock())
